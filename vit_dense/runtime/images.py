"""Read images with OpenCV, and say in one line what is wrong with those that cannot be read."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..data.image_files import read_checked
from ..data.pictures import Picture


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
