"""From the graph of a segmentation model to class scores of an image, as mmseg computes them."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .preprocessing import Size

Planes = NDArray[np.float32]
RunGraph = Callable[[Planes], Planes]
_SMALL = 256  # classes whose index fits into 8 bits
_TINY = 1e-12


def slide(run: RunGraph, images: Planes, crop: Size, stride: Size) -> Planes:
    """Average the logits of overlapping windows, as mmseg's `mode='slide'` does.

    Args:
        run: From crops `(B, C, h, w)` to logits of their size.
        images: `(B, C, H, W)`.
        crop: (height, width) of a window.
        stride: (height, width) between windows.

    Returns:
        `(B, K, H, W)`.
    """
    height, width = images.shape[2:]
    total: Planes | None = None
    count = np.zeros((height, width), np.float32)
    for top in _starts(height, crop[0], stride[0]):
        for left in _starts(width, crop[1], stride[1]):
            window = ..., slice(top, top + crop[0]), slice(left, left + crop[1])
            logits = run(np.ascontiguousarray(images[window]))
            if total is None:
                total = np.zeros((*logits.shape[:2], height, width), np.float32)
            total[window] += logits
            count[window] += 1
    assert total is not None
    return total / count


def _starts(length: int, crop: int, stride: int) -> list[int]:
    number = max(length - crop + stride - 1, 0) // stride + 1
    return [max(min(i * stride + crop, length) - crop, 0) for i in range(number)]


def resize_planes(planes: Planes, size: Size) -> Planes:
    """Resize `(K, H, W)` bilinearly to (height, width), as PyTorch's `interpolate` does."""
    if planes.shape[1:] == size:
        return planes
    out = np.empty((len(planes), *size), np.float32)
    for i, plane in enumerate(planes):
        cv2.resize(plane, size[::-1], dst=out[i], interpolation=cv2.INTER_LINEAR)
    return out


def labels_and_scores(
    logits: Planes, settings: dict[str, Any], num_classes: int, *, scores: bool
) -> tuple[NDArray[Any], Planes | None]:
    """Return the label `(H, W)` of every pixel and, on request, the classes' probabilities.

    Args:
        logits: `(K, H, W)` of the original size.
        settings: 'threshold' of a single channel; 'scores', 'softmax' or 'share' (of the total).
        num_classes: Decides on the integer type of the labels.
        scores: Whether to return probabilities.
    """
    kind = np.uint8 if num_classes <= _SMALL else np.uint16
    if len(logits) == 1:
        found = (1 / (1 + np.exp(-logits))).astype(np.float32)
        return (found[0] > settings['threshold']).astype(kind), found if scores else None
    labels = logits.argmax(axis=0).astype(kind)
    if not scores:
        return labels, None
    if settings['scores'] == 'share':
        return labels, logits / np.maximum(logits.sum(axis=0, keepdims=True), _TINY)
    exp = np.exp(logits - logits.max(axis=0, keepdims=True))
    return labels, exp / exp.sum(axis=0, keepdims=True)
