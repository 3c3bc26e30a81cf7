"""Predict many files and write the results; one that fails does not stop the others."""

import errno
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .coco_ids import CocoIds, count_ids, read_ids
from .inputs import InputError, Item, Source, expand
from .output import Output, output_names
from .predictor import PredictOptions, Predictor
from .progress import Progress
from .results import Result, class_indices
from .slices import SliceOptions, iter_sliced
from .tiles import TileOptions, mask_suffix, predict_tiled
from .video import VIDEO_SUFFIXES, VideoReader, VideoWriter
from .writing import write_bytes

_Results = Iterator[tuple[Item, Result | InputError]]


@dataclass
class Summary:
    """What a run did.

    Args:
        predicted: Images and frames that were predicted.
        skipped: Inputs whose files were there already.
        seconds: Time for those that were predicted.
        errors: One for each input without a result.
        notes: What to know about images that were predicted in tiles, one line each.
    """

    predicted: int = 0
    skipped: int = 0
    seconds: float = 0.0
    errors: list[InputError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def predict_files(
    predictor: Predictor,
    inputs: Sequence[Source],
    output: Output,
    options: PredictOptions | None = None,
    *,
    skip_existing: bool = False,
    tiles: TileOptions | None = None,
    slices: SliceOptions | None = None,
    annotations: str | Path | None = None,
) -> Summary:
    """Predict images, folders, patterns and videos, and write the results.

    Args:
        predictor: The model.
        inputs: Paths, folders or patterns.
        output: Where to write, and what.
        options: How to predict.
        skip_existing: Leave out images whose files are there, as of a run that was stopped.
        tiles: Segment images in tiles, without loading them whole; masks and JSON are written.
        slices: Detect in slices of images and frames.
        annotations: A file of COCO's with which the objects are to be evaluated: its ids of images
            and categories are written.

    Raises:
        ValueError: A folder has no image, an option does not fit the model, two inputs have one
            name, `annotations` lacks a class or an image, or the disk is full.
    """
    _check(predictor, output, tiles, slices)
    names = output_names(list(_without_results(expand(inputs), output)))
    done = _complete(names, output, tiled=tiles is not None) if skip_existing else set()
    wanted = {name: item for name, item in names.items() if name not in done}
    videos = {name: item for name, item in wanted.items() if _is_video(item)}
    images = {name: item for name, item in wanted.items() if name not in videos}
    summary = Summary(skipped=len(done))
    ids = _ids(predictor, {n: i for n, i in names.items() if not _is_video(i)}, annotations)

    def predict(items: Iterable[Item]) -> _Results:
        if slices is not None:
            return iter_sliced(predictor, items, slices)
        return predictor.iter_predictions(items, options)

    start = time.monotonic()
    if tiles is not None:
        _predict_tiled(predictor, images, output, tiles, summary)
    else:
        _write_images(images, predict(images.values()), output, summary)
    for name, item in videos.items():
        try:
            if tiles is not None:
                raise ValueError('--tile is for images. Predict videos without it.')
            count, stated = _predict_video(predict, name, item, output)
            summary.predicted += count
            if count < stated:
                summary.notes.append(
                    f'{item.path}: {count} of {stated} frames; the rest cannot be read (cut off '
                    'or damaged), or the file states their number wrongly'
                )
        except (ValueError, OSError) as error:
            _note(error, item, output, summary)
    summary.seconds = time.monotonic() - start
    if 'json' in output.kinds and predictor.task == 'detection':
        # Files of an earlier run, of images that have no result now, are not of this one.
        failed = {error.name for error in summary.errors}
        output.merge(ids.without(name for name, item in names.items() if item.name in failed))
    return summary


def _ids(predictor: Predictor, names: dict[str, Item], path: str | Path | None) -> CocoIds:
    if path is None:
        return count_ids(names, predictor.classes)
    return read_ids(path, names, predictor.classes)


def _complete(names: dict[str, Item], output: Output, *, tiled: bool) -> set[str]:
    """Return the names of the inputs whose files are there."""
    return {
        name
        for name, item in names.items()
        if (
            _is_complete_video(name, output)
            if _is_video(item)
            else output.is_complete(name, mask_suffix(item) if tiled else '.png')
        )
    }


def _check(
    predictor: Predictor, output: Output, tiles: TileOptions | None, slices: SliceOptions | None
) -> None:
    if slices is not None and predictor.task != 'detection':
        raise ValueError('--slice is for detection, and this model segments: use --tile.')
    if tiles is not None and predictor.task != 'segmentation':
        raise ValueError('--tile is for segmentation, and this model detects: use --slice.')
    if tiles is not None and ('overlays' in output.kinds or 'masks' not in output.kinds):
        raise ValueError(
            f'--save {",".join(output.kinds)}: in tiles, masks and json are written, as overlays '
            'need the whole image in memory. Use --save masks,json.'
        )
    if output.classes is not None:
        class_indices(output.classes, predictor.classes)
    try:
        output.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f'--out {output.folder}: {error.strerror or error}. Name a folder that can be written.'
        ) from error


def _without_results(items: Iterator[Item], output: Output) -> Iterator[Item]:
    """Leave out what an earlier run wrote, where the folder of results is among the inputs."""
    own = [(output.folder / kind).resolve() for kind in ('masks', 'overlays', 'json')]
    for item in items:
        parents = Path(str(item.path)).resolve().parents
        if not any(folder in parents for folder in own):
            yield item


def _is_video(item: Item) -> bool:
    return Path(str(item.path)).suffix.lower() in VIDEO_SUFFIXES


def _write_images(
    names: dict[str, Item],
    results: _Results,
    output: Output,
    summary: Summary,
) -> None:
    progress = Progress(len(names), 'images')
    for name, (item, result) in zip(names, results, strict=True):
        if isinstance(result, InputError):
            summary.errors.append(result)
        else:
            try:
                output.write(name, item.name, result)
                summary.predicted += 1
            except (ValueError, OSError) as error:
                _note(error, item, output, summary)
        progress.advance()
    progress.close()


def _predict_tiled(
    predictor: Predictor,
    names: dict[str, Item],
    output: Output,
    options: TileOptions,
    summary: Summary,
) -> None:
    for name, item in names.items():
        progress = Progress(0, f'tiles of {item.name}')

        def show(done: int, total: int, progress: Progress = progress) -> None:
            progress.total = total
            progress.advance(done - progress.done)

        target = output.paths(name, mask_suffix(item))['masks']
        try:
            tiled = predict_tiled(predictor, str(item.path), target, options, progress=show)
        except (ValueError, OSError) as error:
            _note(error, item, output, summary)
            continue
        finally:
            progress.close()
        summary.predicted += 1
        summary.notes.append(f'{item.name}: {tiled}')
        if 'json' in output.kinds:
            height, width = tiled.size
            content = {'file_name': item.name, 'height': height, 'width': width}
            content |= {'areas': tiled.areas, 'disagreement': tiled.disagreement}
            write_bytes(output.paths(name)['json'], json.dumps(content).encode())


def _note(error: Exception, item: Item, output: Output, summary: Summary) -> None:
    """Record an error of one input; raise if all others would fail as well."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        raise ValueError(
            f'{output.folder}: {error.strerror}. What is written so far is complete: make room '
            'and run again with --skip-existing.'
        ) from error
    text, path = str(error), str(item.path)
    message = text if text.startswith(path) else f'{path}: {text}'
    summary.errors.append(InputError(item.name, message))


def _is_complete_video(name: str, output: Output) -> bool:
    ends = {'overlays': '.mp4', 'json': '.json'}
    files = [output.folder / k / f'{name}{end}' for k, end in ends.items() if k in output.kinds]
    return bool(files) and all(path.is_file() for path in files)


def _predict_video(
    predict: Callable[[Iterable[Item]], _Results], name: str, item: Item, output: Output
) -> tuple[int, int]:
    """Write a video of overlays, masks of all frames in a folder, and one JSON file.

    Returns:
        Number of frames that were predicted, and that the file states.
    """
    reader = VideoReader(str(item.path))
    frames = (Item(f'{n:06d}', array=frame, channel_order='bgr') for n, frame in enumerate(reader))
    progress = Progress(reader.expected, f'frames of {item.name}')
    described = []
    with VideoWriter(output.folder / 'overlays' / f'{name}.mp4', reader.rate) as writer:
        for frame, result in predict(frames):
            if isinstance(result, InputError):
                raise ValueError(f'{item.path}: frame {result.message}')
            if 'overlays' in output.kinds:
                writer.write(output.draw(result))
            if 'masks' in output.kinds:
                output.write_mask(f'{name}/{frame.name}', result)
            if 'json' in output.kinds:
                described.append({'frame': int(frame.name), **output.describe(result)})
            progress.advance()
        if 'json' in output.kinds:
            content = {'file_name': item.name, 'rate': reader.rate, 'frames': described}
            path = output.folder / 'json' / f'{name}.json'
            write_bytes(path, json.dumps(content).encode())
    progress.close()
    return progress.done, reader.expected
