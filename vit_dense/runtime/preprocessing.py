"""From a BGR image to the input of an exported graph: the config's test pipeline in NumPy."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .file_description import Preprocessing, Resize

Size = tuple[int, int]


def prepare_image(image: NDArray[Any], steps: Preprocessing) -> tuple[NDArray[np.float32], Size]:
    """Resize, normalise and pad an image.

    Args:
        image: `(H, W, C)`, BGR if there are three channels.
        steps: What to do.

    Returns:
        `(C, h, w)` float32, and its (height, width) before padding.
    """
    for step in steps.resizes:
        image = resize_image(image, step)
    if image.ndim == 2:
        image = image[..., None]
    if steps.swap_channels and image.shape[2] == 3:
        image = image[..., ::-1]
    planes = np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32)
    if steps.mean is not None and steps.std is not None:
        planes -= np.asarray(steps.mean, np.float32)[:, None, None]
        planes /= np.asarray(steps.std, np.float32)[:, None, None]
    height, width = planes.shape[1:]
    if steps.pad_size is not None:
        target = max(height, steps.pad_size[0]), max(width, steps.pad_size[1])
    else:
        divisor = steps.pad_divisor
        target = -(-height // divisor) * divisor, -(-width // divisor) * divisor
    return pad_image(planes, target, steps.pad_value), (height, width)


def resize_image(image: NDArray[Any], step: Resize) -> NDArray[Any]:
    """Resize `(H, W, C)` as mmcv's `Resize` does, with OpenCV's bilinear interpolation."""
    height, width = image.shape[:2]
    if step.factor is not None:
        scale = _rounded(width * step.factor[0]), _rounded(height * step.factor[1])
    else:
        assert step.scale is not None
        scale = step.scale
    if step.keep_ratio:
        factor = min(max(scale) / max(height, width), min(scale) / min(height, width))
        scale = _rounded(width * factor), _rounded(height * factor)
    return cv2.resize(image, scale, interpolation=cv2.INTER_LINEAR)


def pad_image(planes: NDArray[np.float32], size: Size, value: float) -> NDArray[np.float32]:
    """Pad `(C, h, w)` at the lower right to (height, width)."""
    missing = [wanted - edge for wanted, edge in zip(size, planes.shape[1:], strict=True)]
    if not any(missing):
        return planes
    return np.pad(planes, [(0, 0), *((0, edge) for edge in missing)], constant_values=value)


def _rounded(value: float) -> int:
    return int(value + 0.5)
