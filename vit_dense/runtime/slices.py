"""Find small objects in large images: detect in slices and merge, with the package `sahi`."""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from .predictor import Predictor
from .results import Detections


def predict_sliced(
    predictor: Predictor,
    image: str | Path | NDArray[Any],
    slice_size: int,
    *,
    overlap: float = 0.2,
    score_threshold: float = 0.3,
    whole: bool = True,
    batch_size: int = 8,
    dtype: str | None = None,
    channel_order: str = 'bgr',
) -> Detections:
    """Detect objects in overlapping slices of an image and merge them.

    Args:
        predictor: A model for detection.
        image: A path, or an array `(H, W, 3)` uint8.
        slice_size: Edge of a slice, in pixels.
        overlap: Share of a slice that the next one covers too, 0..1.
        score_threshold: Objects with lower scores are dropped before merging.
        whole: Whether to predict the whole image as well, for objects larger than a slice.
        batch_size: Maximum number of slices that run together.
        dtype: As for `Predictor.predict`.
        channel_order: 'bgr' or 'rgb', of an array.
    """
    raise NotImplementedError
