"""From what users name - files, folders, patterns, arrays - to single images."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.pairs import IMAGE_SUFFIXES

Source = Any  # str | Path | array | PIL image | an iterable of these


@dataclass(frozen=True, eq=False)
class Item:
    """One image: a file, or an array.

    Args:
        name: What to call it: the path below the folder or pattern that named it, or a number.
        path: The file, or None.
        array: `(H, W)` or `(H, W, C)`, or None.
        channel_order: 'bgr' or 'rgb' where `array` has a known one; None leaves it to the user.
    """

    name: str
    path: str | None = None
    array: NDArray[Any] | None = None
    channel_order: str | None = None


@dataclass(frozen=True)
class InputError:
    """Why an image has no result: one line that names it."""

    name: str
    message: str


def is_single(source: Source) -> bool:
    """Return whether `source` is one image: an array, a PIL image or a path of one file."""
    if isinstance(source, str | os.PathLike):
        path = str(source)
        return not os.path.isdir(path) and not _is_pattern(path)
    return isinstance(source, np.ndarray) or _is_pillow(source)


def expand(source: Source) -> Iterator[Item]:
    """Yield the images of a source, files in the order of their names.

    Args:
        source: A path, a folder (with its sub-folders), a pattern such as 'data/*.jpg', an array,
            a PIL image, or an iterable of these.

    Raises:
        ValueError: A folder or pattern has no image, or a value is of another type.
    """
    yield from _expand(source, 0)


def _expand(source: Source, number: int) -> Iterator[Item]:
    if isinstance(source, str | os.PathLike):
        yield from _files(os.fspath(source))
    elif isinstance(source, np.ndarray):
        yield Item(str(number), array=source)
    elif _is_pillow(source):
        yield Item(str(number), array=_pixels(source), channel_order='rgb')
    elif isinstance(source, Sequence | Iterator):
        for index, one in enumerate(source):
            yield from _expand(one, index)
    else:
        raise ValueError(
            'Images are paths, folders, patterns, arrays, PIL images or lists of these; got '
            f'{type(source).__name__}.'
        )


def _files(path: str) -> Iterator[Item]:
    if os.path.isdir(path):
        found = [one for one in _below(path) if Path(one).suffix.lower() in IMAGE_SUFFIXES]
        if not found:
            raise ValueError(
                f'{path}: no image in this folder or below. Images end in '
                f'{", ".join(sorted(IMAGE_SUFFIXES))}.'
            )
        for one in found:
            yield Item(os.path.relpath(one, path), path=one)
    elif _is_pattern(path):
        matches = sorted(_without_loops(glob.glob(path, recursive=True)))
        if not matches:
            raise ValueError(f'{path}: no file matches this pattern.')
        # Names begin after the folders without wildcards, so that sub-folders are kept.
        fixed = path[: min(path.find(mark) for mark in '*?[' if mark in path)]
        base = os.path.dirname(fixed) or os.curdir
        for one in matches:
            yield Item(os.path.relpath(one, base), path=one)
    else:
        yield Item(os.path.basename(path), path=path)


def _below(folder: str) -> Iterator[str]:
    for base, folders, files in os.walk(folder):
        folders[:] = sorted(one for one in folders if not one.startswith('.'))
        for name in sorted(files):
            if not name.startswith('.'):
                yield os.path.join(base, name)


def _without_loops(paths: Iterable[str]) -> Iterator[str]:
    """Yield files, but those that a link leads back to from below: `**` follows links."""
    known: dict[Path, bool] = {}
    for path in paths:
        folder = Path(os.path.abspath(path)).parent
        if folder not in known:
            real = [os.path.realpath(one) for one in (folder, *folder.parents)]
            known[folder] = len(set(real)) == len(real)
        if known[folder] and os.path.isfile(path):
            yield path


def _is_pattern(path: str) -> bool:
    return glob.has_magic(path) and not os.path.exists(path)


def _is_pillow(source: Source) -> bool:
    """Tell without importing Pillow, which need not be installed."""
    return any(kind.__module__ == 'PIL.Image' for kind in type(source).__mro__)


def _pixels(image: Any) -> NDArray[np.uint8]:
    """Return the RGB pixels of a PIL image, turned as its EXIF orientation says, as files are.

    16 bits are reduced to 8, as of files; Pillow would clip them.
    """
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith('I;16'):
        grey = (np.array(image).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ('I', 'F'):
        raise ValueError(
            f'PIL images have 8 or 16 bits; got mode {image.mode!r}, whose range of values is '
            'unknown. Scale it to 0..255 first.'
        )
    return np.array(image.convert('RGB'), np.uint8)
