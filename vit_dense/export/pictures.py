"""Drawn images to compare with where the user has given none."""

import cv2
import numpy as np
from numpy.typing import NDArray

_SHAPES = 12
_NOISE = 12


def drawn_pictures(
    size: tuple[int, int], channels: int = 3, count: int = 2
) -> list[NDArray[np.uint8]]:
    """Draw shapes of random colours on a gradient, with noise: `(H, W, channels)` uint8."""
    return [_draw(size, channels, np.random.default_rng(seed)) for seed in range(count)]


def _draw(size: tuple[int, int], channels: int, random: np.random.Generator) -> NDArray[np.uint8]:
    height, width = size
    rows = np.linspace(0, 1, height)[:, None, None]
    columns = np.linspace(0, 1, width)[None, :, None]
    ends = random.uniform(0, 255, (2, channels))
    image = (ends[0] * rows * (1 - columns) + ends[1] * columns).clip(0, 255).astype(np.uint8)
    planes = np.ascontiguousarray(image.transpose(2, 0, 1))
    for _ in range(_SHAPES):
        centre = int(random.integers(width)), int(random.integers(height))
        radius = int(random.integers(2, max(3, min(size) // 4)))
        is_circle = random.random() < 0.5
        for plane, level in zip(planes, random.integers(0, 256, channels), strict=True):
            if is_circle:
                cv2.circle(plane, centre, radius, int(level), -1)
            else:
                corner = centre[0] + radius, centre[1] + radius
                cv2.rectangle(plane, centre, corner, int(level), -1)
    noisy = planes.transpose(1, 2, 0) + random.normal(0, _NOISE, (height, width, channels))
    return noisy.clip(0, 255).astype(np.uint8)
