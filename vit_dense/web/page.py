"""The layout of the page and what its controls do; pictures travel in the page, not in files."""

import html
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fastapi
import gradio as gr

from ..runtime import Predictor
from ..runtime.images import IMAGE_SUFFIXES, read_image
from . import assets
from .session import (
    Limits,
    Prediction,
    data_url,
    draw,
    legend,
    picture_url,
    predict_file,
    shrink,
)

# Seconds: how often uploads are looked through, and after what time they and results are removed.
_SWEEP, _KEPT = 600, 3600
# Results in memory, one per open page; the page that was used least recently loses its own.
_SESSIONS = 32
_THUMBNAIL_EDGE = 160
_FONTS = ['system-ui', 'sans-serif']


def build_page(
    predictor: Predictor, *, title: str, limits: Limits, examples: Sequence[str] = ()
) -> gr.Blocks:
    """Return the page.

    Args:
        predictor: The model.
        title: What to call the model.
        limits: What the page takes.
        examples: Paths of images to offer.
    """
    detects = predictor.task == 'detection'
    what = 'Detection' if detects else 'Segmentation'
    with gr.Blocks(
        title=f'{title} - vit-dense',
        analytics_enabled=False,
        delete_cache=(_SWEEP, _KEPT),
        fill_width=True,
    ) as page:
        state = gr.State(None, time_to_live=_KEPT)
        gr.HTML(
            f'<h1>{html.escape(title)}</h1><p>{what} with {len(predictor.classes)} classes</p>',
            elem_id='title',
            apply_default_css=False,
        )
        with gr.Row():
            with gr.Column(scale=1, min_width=340):
                upload = gr.File(
                    label=f'Image, up to {limits.megabytes:g} MB and {limits.megapixels:g} '
                    'million pixels',
                    file_types=sorted(IMAGE_SUFFIXES),
                    height=160,
                    elem_id='upload',
                )
                chooser = gr.HTML(
                    [_thumbnail(path) for path in examples],
                    html_template=assets.EXAMPLES,
                    js_on_load=assets.CHOOSE,
                    elem_id='examples',
                    apply_default_css=False,
                    visible=bool(examples),
                )
                threshold = gr.Slider(
                    0, 1, 0.3, step=0.01, label='Minimum score', visible=detects, elem_id='score'
                )
                opacity = gr.Slider(0, 1, 0.6, step=0.05, label='Opacity', elem_id='opacity')
                rows = gr.HTML(
                    [],
                    html_template=assets.LEGEND,
                    js_on_load=assets.TOGGLE,
                    heading='Objects per class' if detects else 'Share of the area',
                    elem_id='legend',
                    apply_default_css=False,
                )
                save = gr.Button(
                    'Download objects (COCO JSON)' if detects else 'Download mask (index PNG)',
                    interactive=False,
                    elem_id='save',
                )
                saved = gr.JSON(visible=False)
            with gr.Column(scale=3, min_width=320):
                status = gr.HTML(
                    {}, html_template=assets.STATUS, elem_id='status', apply_default_css=False
                )
                picture = gr.HTML(
                    None, html_template=assets.PICTURE, elem_id='picture', apply_default_css=False
                )
        shown = [state, status, picture, rows, save]

        def on_upload(path: str | None, opacity: float, threshold: float) -> list[Any]:
            _remove_leftovers(upload.GRADIO_CACHE)
            done = _predict(predictor, path, limits, opacity, threshold)
            return [None, *done]

        def on_example(opacity: float, threshold: float, event: gr.EventData) -> list[Any]:
            index = int(event.index)
            path = examples[index] if 0 <= index < len(examples) else None
            return _predict(predictor, path, limits, opacity, threshold)

        look = [opacity, threshold]
        # One at a time: the model is shared.
        model: dict[str, Any] = {
            'concurrency_id': 'model',
            'concurrency_limit': 1,
            'show_progress_on': picture,
        }
        hidden: dict[str, Any] = {'api_visibility': 'private'}
        upload.upload(on_upload, [upload, *look], [upload, *shown], **model, **hidden)
        chooser.select(on_example, look, shown, **model, **hidden)
        gr.on(
            [opacity.change, threshold.change, rows.input],
            _redraw,
            [state, *look, rows],
            [status, picture, rows],
            show_progress='hidden',
            trigger_mode='always_last',
            **hidden,
        )
        save.click(_download, state, saved, show_progress='hidden', **hidden).then(
            None, saved, js=assets.SAVE, **hidden
        )
    page.state_session_capacity = _SESSIONS
    return page


def build_app(page: gr.Blocks, limits: Limits) -> fastapi.FastAPI:
    """Return the application of a page, for a server such as uvicorn."""
    theme = gr.themes.Default(font=_FONTS, font_mono=['monospace'])
    return gr.mount_gradio_app(
        fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        page,
        path='/',
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        max_file_size=int(limits.megabytes * 2**20),
        theme=theme,
        css=assets.CSS,
    )


def _predict(
    predictor: Predictor, path: str | None, limits: Limits, opacity: float, threshold: float
) -> list[Any]:
    """Return the values of state, status, picture, legend and button."""
    try:
        if path is None:
            raise ValueError('There is no image: drop one.')
        done = predict_file(predictor, path, limits)
        look = _look(done, opacity, threshold, [])
    except ValueError as error:
        return [None, {'error': str(error)}, None, [], gr.update(interactive=False)]
    except Exception as error:
        logging.getLogger(__name__).exception('Prediction of %s failed', path)
        text = f'The prediction failed ({type(error).__name__}); the log of the server has more.'
        return [None, {'error': text}, None, [], gr.update(interactive=False)]
    height, width = done.size
    text = f'{done.name}: {width} x {height} pixels, predicted in {done.seconds:.2f} s'
    return [done, {'text': text}, *look, gr.update(interactive=True)]


def _redraw(
    done: Prediction | None, opacity: float, threshold: float, rows: list[dict[str, Any]] | None
) -> list[Any]:
    """Return the values of status, picture and legend."""
    if done is None:
        gone = {'error': 'The result is kept no longer: drop the image again.'} if rows else {}
        return [gone, None, []]
    hidden = [row['name'] for row in rows or [] if not row['shown']]
    return [gr.skip(), *_look(done, opacity, threshold, hidden)]


def _look(done: Prediction, opacity: float, threshold: float, hidden: list[str]) -> list[Any]:
    picture = draw(done, opacity=opacity, threshold=threshold, hidden=hidden)
    return [picture_url(picture), legend(done, threshold=threshold, hidden=hidden)]


def _download(done: Prediction | None) -> dict[str, str] | None:
    if done is None:
        return None
    kind = 'image/png' if done.file_name.endswith('.png') else 'application/json'
    return {'name': done.file_name, 'url': data_url(done.content, kind)}


def _thumbnail(path: str) -> dict[str, str]:
    picture = shrink(read_image(path)[..., ::-1], _THUMBNAIL_EDGE)
    return {'name': Path(path).name, 'url': picture_url(picture, '.jpg')}


def _remove_leftovers(folder: str) -> None:
    """Remove what Gradio leaves beside the uploads: an empty file for each, and refused ones."""
    now = time.time()
    for one in os.scandir(folder):
        if one.is_file():
            found = one.stat()
            if now - found.st_mtime > (_KEPT if found.st_size else 1):
                os.unlink(one)
