"""Statistics of single image and mask files, which the rules of `findings` compare.

Files are decoded at full resolution: the standard deviation of a reduced image is too small. OpenCV
and Pillow decode without Python's lock, so threads are enough.
"""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from .image_files import read_checked

_HASH_SIZE = (9, 8)  # columns, rows: 8 comparisons in each row
_PNG, _PNG_DEPTH = b'\x89PNG', 24  # where the header of a PNG file has the bits of a channel
_TIFF_DEPTH = 258  # tag BitsPerSample
Array = NDArray[Any]


@dataclass
class Scan:
    """What one file holds; with `error`, the reason why it cannot be read, nothing else is set."""

    path: str
    error: str = ''
    size: tuple[int, int] = (0, 0)  # width and height, as loaded
    mode: str = ''  # Pillow's mode and bits of a channel, 'RGB, 8 bits'
    orientation: int = 1  # of EXIF, 1..8; 1 is upright
    digest: bytes = b''  # of the bytes; equal for copies
    look: Array = field(default_factory=lambda: np.zeros(64, bool))  # difference hash
    # Mean and mean square of each channel, in the values and the order in which it is loaded.
    mean: Array = field(default_factory=lambda: np.zeros(0))
    square: Array = field(default_factory=lambda: np.zeros(0))
    maximum: float = 0.0
    counts: dict[int, int] = field(default_factory=dict)  # pixels of each label


def scan_image(path: str, load: Callable[[str], Array]) -> Scan:
    """Read one image; `load` returns `(H, W)` or `(H, W, C)`, as the model's pipeline loads it."""
    try:
        content = read_checked(path)
        pixels = np.atleast_3d(load(path))
        channels = [np.ascontiguousarray(pixels[..., i]) for i in range(pixels.shape[2])]
        moments = np.reshape([cv2.meanStdDev(one) for one in channels], (-1, 2))
        if not np.isfinite(moments).all():
            raise ValueError('it holds NaN or infinite values')
    except Exception as error:  # a loader of the user's may raise anything
        return Scan(path, _reason(path, error))
    mode, orientation = _header(content) or (str(pixels.dtype), 1)
    cells = [cv2.resize(one, _HASH_SIZE, interpolation=cv2.INTER_AREA) for one in channels[:3]]
    grey = np.array(cells, np.float64).sum(axis=0)
    return Scan(
        path,
        size=(pixels.shape[1], pixels.shape[0]),
        mode=mode,
        orientation=orientation,
        digest=hashlib.blake2b(content, digest_size=16).digest(),
        look=(grey[:, 1:] > grey[:, :-1]).ravel(),
        mean=moments[:, 0],
        square=(moments**2).sum(axis=1),
        maximum=float(pixels.max()),
    )


def scan_mask(path: str, read: Callable[[str], Array]) -> Scan:
    """Count the pixels of each label; `read` returns `(H, W)` labels as the pipeline loads them."""
    try:
        labels = read(path)
        if labels.ndim != 2:
            raise ValueError(f'it has {labels.shape[2]} channels instead of class indices')
    except Exception as error:
        return Scan(path, _reason(path, error))
    flat = labels.ravel()
    # Masks have long runs of one label: sorting runs is faster than sorting pixels.
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    found, run = np.unique(flat[starts], return_inverse=True)
    counts = np.bincount(run, weights=np.diff(starts, append=flat.size)).astype(np.int64)
    return Scan(
        path,
        size=(labels.shape[1], labels.shape[0]),
        counts=dict(zip(found.tolist(), counts.tolist(), strict=True)),
    )


def _reason(path: str, error: Exception) -> str:
    text = str(error).replace(f'{path}: ', '').replace(f'The mask {path} ', 'it ')
    text = text or type(error).__name__
    return text.partition('\n')[0]


def _header(content: bytes) -> tuple[str, int] | None:
    """Return mode and EXIF orientation, from the header alone; None if Pillow cannot."""
    try:
        with Image.open(io.BytesIO(content)) as picture:
            bits = content[_PNG_DEPTH] if content.startswith(_PNG) else 8
            bits = getattr(picture, 'tag_v2', {}).get(_TIFF_DEPTH, (bits,))[0]
            turn = picture.getexif().get(ExifTags.Base.Orientation) or 1
            return f'{picture.mode}, {bits} bits', turn
    except OSError:
        return None
