"""Read images with OpenCV, and say in one line what is wrong with those that cannot be read."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..data.pictures import Picture

IMAGE_SUFFIXES = frozenset(
    ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.gif', '.jp2', '.ppm', '.pgm')
)
_JPEG, _SOS, _EOI = b'\xff\xd8\xff', 0xDA, b'\xff\xd9'
_MARKUP = (b'<!doctype', b'<html', b'<?xml', b'<head')


def read_image(path: str | Path) -> Picture:
    """Read an image as `(H, W, 3)` uint8 BGR, turned as its EXIF orientation says.

    Grey images and palettes become three channels, alpha is dropped, 16 bits are reduced to 8.

    Raises:
        ValueError: It is no image that OpenCV reads, or it is incomplete; one line.
    """
    content = read_checked(path)
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ValueError(f'{path}: OpenCV cannot read it: {error.err}') from error
    if image is None:
        raise ValueError(
            f'{path}: OpenCV cannot read it (damaged, of an unknown format or more than 16 bits)'
        )
    return image.astype(np.uint8, copy=False)


def read_checked(path: str | Path) -> bytes:
    """Return the content of an image file that is there, not empty and not cut off.

    Raises:
        ValueError: It is not; one line that names the file.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f'{path}: {error.strerror or error}') from error
    if not content:
        raise ValueError(f'{path}: the file is empty (0 bytes)')
    if content[:64].lstrip().lower().startswith(_MARKUP):
        raise ValueError(f'{path}: this is a web page (HTML), not an image')
    if content.startswith(_JPEG) and not _is_complete_jpeg(content):
        raise ValueError(f'{path}: the JPEG file is cut off')
    return content


def as_image(array: NDArray[Any], *, channels: int = 3, channel_order: str = 'bgr') -> NDArray[Any]:
    """Return an array given by a user as `(H, W, channels)`, BGR if there are three.

    Args:
        array: `(H, W)`, `(H, W, 1)`, `(H, W, 3)` or `(H, W, 4)` with alpha, uint8; or of the
            model's number of channels and any type, if these are not three.
        channels: What the model takes.
        channel_order: 'bgr' or 'rgb', of an array of three or four channels.

    Raises:
        ValueError: The array is none of these.
    """
    if channel_order not in ('bgr', 'rgb'):
        raise ValueError(f"channel_order={channel_order!r}: give 'bgr' or 'rgb'.")
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or 0 in array.shape:
        raise ValueError(f'An image is an array (H, W, {channels}); got {array.shape}.')
    if channels != 3:
        if array.shape[2] != channels:
            raise ValueError(f'The model takes {channels} channels; got {array.shape}.')
        return array
    if array.dtype != np.uint8:
        raise ValueError(
            f'Images are uint8 with values 0..255; got {array.dtype}. Convert it first, such as '
            '(image * 255).round().astype(np.uint8) for values 0..1.'
        )
    if array.shape[2] == 1:
        return np.repeat(array, 3, axis=2)
    if array.shape[2] not in (3, 4):
        raise ValueError(f'An image has 1, 3 or 4 channels; got {array.shape}.')
    array = array[..., :3]
    return np.ascontiguousarray(array[..., ::-1] if channel_order == 'rgb' else array)


def _is_complete_jpeg(content: bytes) -> bool:
    """Return whether the image ends: OpenCV 4 fills the missing part with grey without an error.

    Walks over the segments, which may hold a thumbnail, to the first scan. In its data, the two
    bytes of an end marker cannot occur otherwise (ITU-T T.81, B.1.1).
    """
    position = 2
    while position + 4 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker == _SOS:
            return content.find(_EOI, position) >= 0
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        position += 2 + int.from_bytes(content[position + 2 : position + 4], 'big')
    return False
