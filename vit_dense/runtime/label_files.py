"""Write label maps of large images row by row: PNG with a palette, or tiled GeoTIFF."""

import contextlib
import json
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
        rasterio = import_rasterio(f'{path}: writing GeoTIFF')
        with (
            replacing(path) as temporary,
            raster_settings(rasterio),
            _create(rasterio, temporary, raster, sink) as dataset,
        ):
            _describe(dataset, sink, classes, palette)
            row = 0

            def write(block: NDArray[Any]) -> None:
                nonlocal row
                dataset.write(block, 1, window=((row, row + len(block)), (0, raster.width)))
                row += len(block)

            sink.write = write
            yield sink
    else:
        raise ValueError(f'{path}: labels are written as .png or .tif.')


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
