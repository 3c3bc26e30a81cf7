"""Write label maps of large images row by row: PNG with a palette, or tiled GeoTIFF."""

import contextlib
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .index_png import IndexPng
from .rasters import Raster, import_rasterio, raster_settings
from .writing import replacing

_SMALL = 255  # classes whose index and the label for missing data fit into 8 bits
_BLOCK = 256  # edge of a GeoTIFF's blocks, in pixels


class LabelSink:
    """Takes rows of labels, from top to bottom.

    Args:
        num_classes: Number of classes.

    Attributes:
        nodata: The label of pixels without data.
        dtype: Of the labels: uint8, or uint16 with more than 255 classes.
        write: Appends `(h, W)` labels; by default to `blocks`, in memory.
    """

    def __init__(self, num_classes: int) -> None:
        self.nodata = _SMALL if num_classes <= _SMALL else 2**16 - 1
        self.dtype = np.min_scalar_type(self.nodata)
        self.blocks: list[NDArray[Any]] = []
        self.write: Callable[[NDArray[Any]], None] = self.blocks.append


@contextlib.contextmanager
def open_label_file(
    path: str | Path, raster: Raster, classes: Sequence[str], palette: NDArray[np.uint8]
) -> Iterator[LabelSink]:
    """Open a file for the labels of an image; it appears when it is complete.

    Raises:
        ValueError: The suffix is neither .png nor .tif, or rasterio is missing for .tif.
        OSError: The disk is full or the folder cannot be written.
    """
    suffix = Path(path).suffix.lower()
    sink = LabelSink(len(classes))
    if suffix == '.png':
        with replacing(path) as temporary, temporary.open('wb') as file:
            png = IndexPng(file, (raster.height, raster.width), sink.dtype, palette)
            sink.write = png.write
            yield sink
            png.finish()
    elif suffix in ('.tif', '.tiff'):
        with _geotiff(path, raster, sink, classes, palette):
            yield sink
    else:
        raise ValueError(f'{path}: labels are written as .png or .tif.')


@contextlib.contextmanager
def _geotiff(
    path: str | Path,
    raster: Raster,
    sink: LabelSink,
    classes: Sequence[str],
    palette: NDArray[np.uint8],
) -> Iterator[None]:
    """Write a GeoTIFF and read it again: GDAL reports no error when it fails at the end."""
    rasterio = import_rasterio(f'{path}: writing GeoTIFF')
    failure = f'{path}: the labels could not be written whole; is the disk full?'
    row = check = 0

    def write(block: NDArray[Any]) -> None:
        nonlocal row, check
        rows = row, row + len(block)
        try:
            dataset.write(block, 1, window=(rows, (0, raster.width)))
        except rasterio.errors.RasterioIOError as error:
            raise OSError(failure) from error
        row, check = rows[1], zlib.crc32(block.tobytes(), check)

    sink.write = write
    with replacing(path) as temporary, raster_settings(rasterio):
        with contextlib.closing(_create(rasterio, temporary, raster, sink)) as dataset:
            _describe(dataset, sink, classes, palette)
            yield
        if _checksum(rasterio, temporary) != check:
            raise OSError(failure)


def _checksum(rasterio: Any, path: Path) -> int | None:
    """Return the checksum of the labels in a file; None if they cannot be read."""
    check = 0
    try:
        with rasterio.open(path) as dataset:
            for top in range(0, dataset.height, _BLOCK):
                rows = top, min(top + _BLOCK, dataset.height)
                check = zlib.crc32(dataset.read(1, window=(rows, (0, dataset.width))), check)
    except rasterio.errors.RasterioIOError:
        return None
    return check


def _create(rasterio: Any, path: Path, raster: Raster, sink: LabelSink) -> Any:
    return rasterio.open(
        path,
        'w',
        driver='GTiff',
        height=raster.height,
        width=raster.width,
        count=1,
        dtype=sink.dtype.name,
        nodata=sink.nodata,
        tiled=True,
        blockxsize=_BLOCK,
        blockysize=_BLOCK,
        compress='deflate',
        bigtiff='if_safer',
        **{key: value for key, value in raster.georeference.items() if value is not None},
    )


def _describe(
    dataset: Any, sink: LabelSink, classes: Sequence[str], palette: NDArray[np.uint8]
) -> None:
    if sink.dtype == np.uint8:
        colours = {i: (*map(int, rgb), _SMALL) for i, rgb in enumerate(palette)}
        dataset.write_colormap(1, {**colours, sink.nodata: (0, 0, 0, 0)})
    dataset.update_tags(CLASSES=json.dumps(list(classes)))
