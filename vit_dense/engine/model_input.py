"""Turn what a model was given into a picture of the original image's size."""

from typing import Any

import cv2
import numpy as np
import torch
from mmengine.fileio import get as read_bytes
from numpy.typing import NDArray

from ..data.pictures import Picture

_WHITE = 255.0


def input_picture(sample: Any, inputs: Any, *, reverse: bool = True) -> Picture:
    """Return the image of `sample` as `(H, W, 3)` RGB, at its original size.

    Args:
        sample: A data sample with the metadata of mmseg or mmdet.
        inputs: What the data loader gave for it: a tensor `(C, H, W)`, before the model
            normalises it. Anything else, or a flipped image, is read from `sample.img_path`.
        reverse: Whether the model reverses the channels of `inputs`, as from BGR to RGB.

    Raises:
        ValueError: `inputs` cannot be drawn, and OpenCV cannot read the file.
    """
    if not isinstance(inputs, torch.Tensor) or inputs.ndim != 3 or sample.get('flip', False):
        return read_picture(sample.img_path)
    pixels = inputs.detach().cpu().numpy().transpose(1, 2, 0)
    pixels = _original_size(pixels, sample)
    norm = sample.get('img_norm_cfg')  # of a pipeline that normalises
    if norm:
        pixels = pixels * np.asarray(norm['std']) + np.asarray(norm['mean'])
    return to_picture(pixels, reverse=reverse)


def to_picture(pixels: NDArray[Any], *, reverse: bool) -> Picture:
    """Return `(H, W, C)` values of any range as `(H, W, 3)` RGB; `reverse` as above."""
    return _to_levels(_three_channels(pixels, reverse))


def read_picture(path: str) -> Picture:
    """Read `(H, W, 3)` RGB with OpenCV, from any storage of mmengine.

    Raises:
        ValueError: OpenCV cannot read the file.
    """
    encoded = np.frombuffer(read_bytes(path), np.uint8)
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f'OpenCV cannot read {path}')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8)


def _original_size(pixels: NDArray[Any], sample: Any) -> NDArray[Any]:
    """Cut padding at the right and bottom off, and resize to the size before the pipeline."""
    height, width = (int(edge) for edge in sample.get('ori_shape', pixels.shape)[:2])
    scale_x, scale_y = (float(one) for one in sample.get('scale_factor', (1.0, 1.0))[:2])
    pixels = pixels[: max(1, round(height * scale_y)), : max(1, round(width * scale_x))]
    if pixels.shape[:2] == (height, width):
        return pixels
    shrinks = pixels.shape[0] > height
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    channels = [
        cv2.resize(np.ascontiguousarray(one, np.float32), (width, height), interpolation=method)
        for one in np.moveaxis(pixels, 2, 0)
    ]
    resized = np.stack(channels, axis=2)
    return resized.round().astype(pixels.dtype) if pixels.dtype == np.uint8 else resized


def _three_channels(pixels: NDArray[Any], reverse: bool) -> NDArray[Any]:
    """Repeat a single channel; take the first three of many."""
    if pixels.shape[2] < 3:
        return np.repeat(pixels[..., :1], 3, axis=2)
    # Models reverse images of three channels only. Of more, OpenCV loads B, G, R first.
    if reverse or pixels.shape[2] > 3:
        return pixels[..., 2::-1]
    return pixels


def _to_levels(pixels: NDArray[Any]) -> Picture:
    """Map values to 0..255: as they are if they are within, stretched from 0..1 or any range."""
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    values = np.nan_to_num(pixels.astype(np.float32), posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > _WHITE:
        values = (values - low) * (_WHITE / max(high - low, 1e-12))
    elif high <= 1:
        values = values * _WHITE
    return np.ascontiguousarray(values.round().astype(np.uint8))
