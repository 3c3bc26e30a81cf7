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

from ..data.pairs import IMAGE_SUFFIXES
from ..runtime import Predictor
from ..runtime.images import read_image
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
    what = 'Detection' if predictor.task == 'detection' else 'Segmentation'
    with gr.Blocks(
        title=f'{title} - vit-dense',
        analytics_enabled=False,
        delete_cache=(_SWEEP, _KEPT),
        fill_width=True,
    ) as page:
        _html(
            f'<h1>{html.escape(title)}</h1><p>{what} with {len(predictor.classes)} classes</p>',
            elem_id='title',
        )
        with gr.Row():
            with gr.Column(scale=1, min_width=340):
                parts = _controls(predictor.task == 'detection', limits, examples)
            with gr.Column(scale=3, min_width=320):
                parts['status'] = _html({}, html_template=assets.STATUS, elem_id='status')
                parts['picture'] = _html(None, html_template=assets.PICTURE, elem_id='picture')
        _connect(parts, predictor, limits, examples)
    page.state_session_capacity = _SESSIONS
    return page


def _html(value: Any, **options: Any) -> gr.HTML:
    return gr.HTML(value, apply_default_css=False, **options)


def _controls(detects: bool, limits: Limits, examples: Sequence[str]) -> dict[str, Any]:
    """Lay out what is left of the picture, and return it by name."""
    return {
        'upload': gr.File(
            label=f'Image, up to {limits.megabytes:g} MB and {limits.megapixels:g} million pixels',
            file_types=sorted(IMAGE_SUFFIXES),
            height=160,
            elem_id='upload',
        ),
        'examples': _html(
            [_thumbnail(path) for path in examples],
            html_template=assets.EXAMPLES,
            js_on_load=assets.CHOOSE,
            elem_id='examples',
            visible=bool(examples),
        ),
        'threshold': gr.Slider(
            0, 1, 0.3, step=0.01, label='Minimum score', visible=detects, elem_id='score'
        ),
        'opacity': gr.Slider(0, 1, 0.6, step=0.05, label='Opacity', elem_id='opacity'),
        'rows': _html(
            [],
            html_template=assets.LEGEND,
            js_on_load=assets.TOGGLE,
            heading='Objects per class' if detects else 'Share of the area',
            elem_id='legend',
        ),
        'save': gr.Button(
            'Download objects (COCO JSON)' if detects else 'Download mask (index PNG)',
            interactive=False,
            elem_id='save',
        ),
        'saved': gr.JSON(visible=False),
    }


def _connect(
    parts: dict[str, Any], predictor: Predictor, limits: Limits, examples: Sequence[str]
) -> None:
    """Say what the controls do."""
    upload, picture, rows, save = (parts[n] for n in ('upload', 'picture', 'rows', 'save'))
    state = gr.State(None, time_to_live=_KEPT)
    shown = [state, parts['status'], picture, rows, save]
    look = [parts['opacity'], parts['threshold']]

    def on_upload(path: str | None, opacity: float, threshold: float) -> list[Any]:
        _remove_leftovers(upload.GRADIO_CACHE)
        return [None, *_predict(predictor, path, limits, opacity, threshold)]

    def on_example(opacity: float, threshold: float, event: gr.EventData) -> list[Any]:
        index = int(event.index)
        path = examples[index] if 0 <= index < len(examples) else None
        return _predict(predictor, path, limits, opacity, threshold)

    # One at a time: the model is shared.
    model: dict[str, Any] = {
        'concurrency_id': 'model',
        'concurrency_limit': 1,
        'show_progress_on': picture,
        'api_visibility': 'private',
    }
    upload.upload(on_upload, [upload, *look], [upload, *shown], **model)
    parts['examples'].select(on_example, look, shown, **model)
    quick: dict[str, Any] = {'show_progress': 'hidden', 'api_visibility': 'private'}
    gr.on(
        [*(one.change for one in look), rows.input],
        _redraw,
        [state, *look, rows],
        [parts['status'], picture, rows],
        trigger_mode='always_last',
        **quick,
    )
    save.click(_download, state, parts['saved'], **quick).then(
        None, parts['saved'], js=assets.SAVE, api_visibility='private'
    )


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
