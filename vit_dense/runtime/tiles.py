"""Segment images larger than memory: tiles that overlap, blended where they meet."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from .predictor import Predictor
from .results import Segmentation

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TileOptions:
    """How to cut an image into tiles, and how to read it.

    Args:
        tile: Edge of a tile in pixels; None is the training crop of the config, else 512.
        overlap: Pixels that neighbouring tiles share; None is a quarter of the tile.
        batch_size: Maximum number of tiles that run together; fewer if their scores are large.
        dtype: As for `Predictor.predict`.
        channel_order: 'bgr' or 'rgb', of an array.
        bands: Bands of a raster to use, counted from 1, in the order red, green, blue, or that of
            the model's channels.
        scale_from: Values that become 0 and 255, for rasters that are not 8-bit and a model of
            8-bit images.
    """

    tile: int | None = None
    overlap: int | None = None
    batch_size: int = 8
    dtype: str | None = None
    channel_order: str = 'bgr'
    bands: Sequence[int] | None = None
    scale_from: tuple[float, float] | None = None


@dataclass(frozen=True)
class TiledSummary:
    """What was predicted.

    Args:
        size: Height and width of the image.
        tiles: Number of tiles.
        skipped: Number of tiles without data, which were not predicted.
        disagreement: Share of the pixels where tiles are blended at which they predict different
            classes, 0..1.
        areas: Share of the pixels with data that each class covers, 0..1, if it occurs.
    """

    size: tuple[int, int]
    tiles: int
    skipped: int
    disagreement: float
    areas: dict[str, float] = field(default_factory=dict)


def predict_tiled(
    predictor: Predictor,
    source: str | Path,
    out: str | Path,
    options: TileOptions | None = None,
    *,
    progress: Progress | None = None,
) -> TiledSummary:
    """Segment an image file of any size into a label map.

    Args:
        predictor: A model for segmentation.
        source: GeoTIFF and other TIFF (read in windows if rasterio is installed), PNG, JPEG, ...
        out: `.tif` (tiled GeoTIFF with the georeference of `source`; needs rasterio) or `.png`.
        options: Default: `TileOptions()`.
        progress: Called with the number of finished tiles and of all tiles.
    """
    raise NotImplementedError


def segment_tiled(
    predictor: Predictor,
    image: str | Path | NDArray[Any],
    options: TileOptions | None = None,
    *,
    progress: Progress | None = None,
) -> tuple[Segmentation, TiledSummary]:
    """Segment an image whose label map fits in memory; as `predict_tiled`."""
    raise NotImplementedError
