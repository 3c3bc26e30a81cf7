"""Segment images larger than memory: tiles that overlap, blended where they meet.

Tiles are predicted from left to right and from top to bottom. Probabilities are kept for the
zones alone in which tiles are blended: those of one row of tiles, and of the tile to the left.
Memory therefore grows with neither the height of the image nor, beyond `_STRIP_BYTES`, its width.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .inputs import Item
from .label_files import LabelSink, open_label_file
from .predictor import PredictOptions, Predictor
from .rasters import TIFF_SUFFIXES, Raster, RasterOptions, open_raster
from .results import Segmentation
from .tile_grid import TileAxis, split_axis
from .tile_model import TileModel

Progress = Callable[[int, int], None]
_Floats = NDArray[np.float32]

# Probabilities of the blended rows below a row of tiles; wide images blend fewer rows.
_STRIP_BYTES = 128 * 2**20
# Probabilities of the tiles that run together; models need several times as much.
_BATCH_BYTES = 192 * 2**20


@dataclass(frozen=True, kw_only=True)
class TileOptions(RasterOptions):
    """How to cut an image into tiles, and how to read it (`RasterOptions`).

    Args:
        tile: Edge of a tile in pixels, rounded down to a multiple of the model's windows; None is
            the training crop of the config, else 512.
        overlap: Pixels that neighbouring tiles share, at most half a tile; None is a quarter.
        batch_size: Maximum number of tiles that run together; fewer if there are many classes.
        dtype: As for `Predictor.predict`.
    """

    tile: int | None = None
    overlap: int | None = None
    batch_size: int = 8
    dtype: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tile is not None and self.tile < 1:
            raise ValueError(f'--tile {self.tile}: give the edge of a tile in pixels, at least 1.')
        if self.batch_size < 1:
            raise ValueError(f'batch_size must be at least 1, got {self.batch_size}.')


@dataclass(frozen=True)
class TiledSummary:
    """What was predicted.

    Args:
        size: Height and width of the image.
        tiles: Number of tiles.
        skipped: Number of tiles without data, which were not predicted.
        disagreement: Share of the blended pixels at which the two tiles predict different
            classes, 0..1; None if nothing was blended.
        areas: Share of the pixels with data that each class covers, 0..1, if it occurs.
    """

    size: tuple[int, int]
    tiles: int
    skipped: int
    disagreement: float | None
    areas: dict[str, float]

    def __str__(self) -> str:
        """Return one line for users."""
        text = f'{self.size[1]}x{self.size[0]} pixels in {self.tiles} tiles'
        if self.skipped:
            text += f', {self.skipped} without data'
        if self.disagreement is not None:
            text += f'; where tiles overlap, they differ at {self.disagreement:.2%} of the pixels'
        return text


def mask_suffix(item: Item) -> str:
    """Return the suffix of the labels of an image: .tif, with georeference, for TIFF files."""
    is_tiff = Path(str(item.path)).suffix.lower() in TIFF_SUFFIXES
    return '.tif' if is_tiff and find_spec('rasterio') else '.png'


def predict_tiled(
    predictor: Predictor,
    source: str | Path | NDArray[Any],
    out: str | Path,
    options: TileOptions | None = None,
    *,
    progress: Progress | None = None,
) -> TiledSummary:
    """Segment an image of any size into a file of labels.

    Tiles are predicted at the image's own resolution: the resizing of the test pipeline is left
    out.

    Args:
        predictor: A model for segmentation.
        source: A path, or an array `(H, W, C)`. TIFF files are read in windows if rasterio is
            installed; other formats are decoded whole.
        out: `.tif`, a tiled GeoTIFF with the georeference of `source` (needs rasterio), or
            `.png`. Pixels without data have the label 255 (65535 with more than 255 classes).
        options: Default: `TileOptions()`.
        progress: Called with the number of finished tiles and of all tiles.

    Raises:
        ValueError: The image or an option does not suit the model, or a tile failed.
        OSError: A file cannot be read or written. `out` is written whole or not at all.
    """
    model = _tile_model(predictor)
    options = _as_trained(options or TileOptions(), model)
    with (
        open_raster(source, model.channels, options, predictor.read) as raster,
        open_label_file(out, raster, predictor.classes, predictor.palette) as sink,
    ):
        return _TiledRun(model, raster, sink, options, progress).run()


def segment_tiled(
    predictor: Predictor,
    image: str | Path | NDArray[Any],
    options: TileOptions | None = None,
    *,
    progress: Progress | None = None,
) -> tuple[Segmentation, TiledSummary]:
    """Segment an image whose labels fit in memory; as `predict_tiled`."""
    model = _tile_model(predictor)
    options = _as_trained(options or TileOptions(), model)
    with open_raster(image, model.channels, options, predictor.read) as raster:
        sink = LabelSink(len(predictor.classes))
        summary = _TiledRun(model, raster, sink, options, progress).run()
    named = str(image) if isinstance(image, str | Path) else None
    labels = np.concatenate(sink.blocks)
    return Segmentation(labels, predictor.classes, predictor.palette, image=named), summary


def _as_trained(options: TileOptions, model: TileModel) -> TileOptions:
    return replace(
        options,
        bands=options.bands or model.bands,
        scale_from=options.scale_from or model.scale_from,
    )


def _tile_model(predictor: Predictor) -> TileModel:
    if predictor.task != 'segmentation':
        raise ValueError(
            'Tiles are for segmentation, and this model detects objects: use --slice '
            '(predict_sliced).'
        )
    return predictor.tile_model()


class _TiledRun:
    """One image: reads, predicts, blends and writes."""

    def __init__(
        self,
        model: TileModel,
        raster: Raster,
        sink: LabelSink,
        options: TileOptions,
        progress: Progress | None,
    ) -> None:
        self.model, self.raster, self.sink, self.progress = model, raster, sink, progress
        count = len(model.predictor.classes)
        align = model.align
        tile = options.tile or model.tile
        tile = max(tile // align, 1) * align
        overlap = tile // 4 if options.overlap is None else options.overlap
        limit = max(_STRIP_BYTES // (4 * count * raster.width), 1)
        self.rows = split_axis(raster.height, tile, overlap, align=align, limit=limit)
        self.columns = split_axis(raster.width, tile, overlap, align=align)
        tile_bytes = 4 * count * min(tile, raster.height) * min(tile, raster.width)
        batch = max(min(options.batch_size, _BATCH_BYTES // tile_bytes), 1)
        self.options = PredictOptions(batch, dtype=options.dtype, scores=True)
        self.strip: _Floats | None = None
        self.skipped = 0
        self.compared = self.different = 0
        self.counts = np.zeros(count, np.int64)

    def run(self) -> TiledSummary:
        tiles = self._predictions()
        for row in range(len(self.rows)):
            self._finish_row(row, islice(tiles, len(self.columns)))
        total = max(int(self.counts.sum()), 1)
        names = self.model.predictor.classes
        return TiledSummary(
            size=(self.raster.height, self.raster.width),
            tiles=len(self.rows) * len(self.columns),
            skipped=self.skipped,
            disagreement=self.different / self.compared if self.compared else None,
            areas={
                name: int(count) / total
                for name, count in zip(names, self.counts, strict=True)
                if count
            },
        )

    def _predictions(self) -> Iterator[Segmentation | None]:
        """Yield the tiles in order; None if one has no data."""
        places = list(product(range(len(self.rows)), range(len(self.columns))))
        step = self.options.batch_size
        for first in range(0, len(places), step):
            items = [self._read(*place) for place in places[first : first + step]]
            kept = (item for item in items if item is not None)
            found = self.model.predictor.iter_predictions(kept, self.options)
            for number, item in enumerate(items, first + 1):
                result = next(found)[1] if item is not None else None
                if result is not None and not isinstance(result, Segmentation):
                    raise ValueError(getattr(result, 'message', 'a tile has no segmentation'))
                self.skipped += result is None
                if self.progress:
                    self.progress(number, len(places))
                yield result

    def _read(self, row: int, column: int) -> Item | None:
        rows = self.rows.starts[row], self.rows.stops[row]
        columns = self.columns.starts[column], self.columns.stops[column]
        pixels = self.raster.read(rows, columns)
        name = f'{self.raster.name}, tile at x={columns[0]} y={rows[0]}'
        return None if pixels is None else Item(name, array=pixels, channel_order='bgr')

    def _finish_row(self, row: int, tiles: Iterable[Segmentation | None]) -> None:
        """Blend a row of tiles with the one above, and write what is final."""
        top, bottom = self.rows.used(row)
        valid = self.raster.valid((top, bottom), (0, self.raster.width))
        height = (self.rows.joins[row] if row < len(self.rows.joins) else bottom) - top
        block = np.empty((height, self.raster.width), self.sink.dtype)
        for left, scores, labels in self._pieces(row, tiles, valid):
            across = slice(left, left + labels.shape[1])
            if row and self.rows.blend:
                assert self.strip is not None
                zone = slice(self.rows.blend)
                before, after = self.strip[:, zone, across], scores[:, zone]
                mixed = before + (after - before) * self.rows.weights()[:, None]
                seen = None if valid is None else valid[zone, across]
                self._compare(self._label(before), labels[zone], seen)
                labels[zone] = self._label(mixed)
            if bottom - top > height:
                if self.strip is None:
                    shape = len(scores), self.rows.blend, self.raster.width
                    self.strip = np.empty(shape, np.float32)
                self.strip[:, :, across] = scores[:, height:]
            block[:, across] = labels[:height]
        if valid is not None:
            valid = valid[:height]
            block[~valid] = self.sink.nodata
        used = block if valid is None else block[valid]
        self.counts += np.bincount(used.ravel(), minlength=len(self.counts))
        self.sink.write(block)

    def _pieces(
        self, row: int, tiles: Iterable[Segmentation | None], valid: NDArray[np.bool_] | None
    ) -> Iterator[tuple[int, _Floats, NDArray[Any]]]:
        """Yield first column, probabilities `(C, h, w)` and labels, from left to right.

        They are blended where the tiles of this row meet, and as high as what the row is used for.
        """
        blend, weights = self.columns.blend, self.columns.weights()
        held: tuple[_Floats, NDArray[Any]] | None = None
        for column, tile in enumerate(tiles):
            scores, labels = self._used(row, column, tile)
            left, right = self.columns.used(column)
            if held is not None and blend:
                before, after = held[0], scores[..., :blend]
                mixed = before + (after - before) * weights
                seen = None if valid is None else valid[:, left : left + blend]
                self._compare(held[1], labels[:, :blend], seen)
                yield left, mixed, self._label(mixed)
            inner = 0 if held is None else blend
            last = right - left - (blend if column < len(self.columns.joins) else 0)
            yield left + inner, scores[..., inner:last], labels[:, inner:last]
            held = scores[..., last:].copy(), labels[:, last:]

    def _used(
        self, row: int, column: int, tile: Segmentation | None
    ) -> tuple[_Floats, NDArray[Any]]:
        """Return the part of a tile's probabilities and labels that is used."""
        down, across = self._within(self.rows, row), self._within(self.columns, column)
        if tile is None:
            shape = down.stop - down.start, across.stop - across.start
            channels = 1 if self.model.threshold is not None else len(self.counts)
            return np.zeros((channels, *shape), np.float32), np.zeros(shape, self.sink.dtype)
        if tile.scores is None:
            raise ValueError('This model returns no scores, which blending needs.')
        if len(tile.scores) == 1 and self.model.threshold is None:
            raise ValueError('A model of one score has no threshold, which blending needs.')
        return tile.scores[:, down, across], tile.labels[down, across].copy()

    @staticmethod
    def _within(axis: TileAxis, index: int) -> slice:
        first, last = axis.used(index)
        return slice(first - axis.starts[index], last - axis.starts[index])

    def _label(self, scores: _Floats) -> NDArray[Any]:
        if len(scores) == 1:
            return (scores[0] > self.model.threshold).astype(self.sink.dtype)
        return scores.argmax(axis=0).astype(self.sink.dtype)

    def _compare(
        self, one: NDArray[Any], other: NDArray[Any], valid: NDArray[np.bool_] | None
    ) -> None:
        differs = one != other
        self.compared += differs.size if valid is None else int(valid.sum())
        self.different += int(np.count_nonzero(differs if valid is None else differs & valid))
