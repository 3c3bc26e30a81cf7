"""What tiled segmentation needs to know of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .predictor import Predictor

DEFAULT_TILE = 512


@dataclass(frozen=True)
class TileModel:
    """A model in use on tiles; from `Predictor.tile_model`.

    Args:
        predictor: The model, with a pre-processing that keeps the size of images.
        channels: Image channels.
        tile: Edge of a tile in pixels, if the user names none.
        align: Tiles start at multiples of so many pixels, so that windows of attention and cells
            of feature maps lie as they would in the whole image.
        threshold: For models of one score: the probability above which a pixel is class 1.
        bands: Bands of TIFF files that the model was trained on, if the user names none.
        scale_from: Values of TIFF files that became 0 and 255 in training, likewise.
    """

    predictor: Predictor
    channels: int = 3
    tile: int = DEFAULT_TILE
    align: int = 1
    threshold: float | None = None
    bands: Sequence[int] | None = None
    scale_from: tuple[float, float] | None = None
