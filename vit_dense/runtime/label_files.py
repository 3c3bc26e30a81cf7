"""Write label maps row by row: PNG with a palette, or tiled GeoTIFF."""

import contextlib
import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .rasters import Raster, import_rasterio, raster_settings
from .writing import replacing

_SMALL = 255  # classes whose index and the label for missing data fit into 8 bits
_BLOCK = 256  # edge of a GeoTIFF's blocks, in pixels


class LabelSink:
    """Takes rows of labels, from top to bottom, and keeps them in memory.

    Args:
        raster: The image.
        classes: Name of each class.
    """

    def __init__(self, raster: Raster, classes: Sequence[str]) -> None:
        self.size = raster.height, raster.width
        self.nodata = _SMALL if len(classes) <= _SMALL else 2**16 - 1
        self.dtype = np.min_scalar_type(self.nodata)
        self.blocks: list[NDArray[Any]] = []

    def write(self, block: NDArray[Any]) -> None:
        """Append `(h, W)` labels."""
        self.blocks.append(block)


class _GeoTiff(LabelSink):
    def __init__(self, raster: Raster, classes: Sequence[str], dataset: Any) -> None:
        super().__init__(raster, classes)
        self.dataset = dataset
        self.row = 0

    def write(self, block: NDArray[Any]) -> None:
        rows = self.row, self.row + len(block)
        self.dataset.write(block, 1, window=(rows, (0, block.shape[1])))
        self.row = rows[1]


class _Png(LabelSink):
    """PNG specification, third edition; no filter, which suits indices."""

    def __init__(
        self, raster: Raster, classes: Sequence[str], palette: NDArray[np.uint8], file: BinaryIO
    ) -> None:
        super().__init__(raster, classes)
        self.file = file
        self.compressor = zlib.compressobj(6)
        small = self.dtype == np.uint8
        file.write(b'\x89PNG\r\n\x1a\n')
        height, width = self.size
        depth, colour = (8, 3) if small else (16, 0)
        self._chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, depth, colour, 0, 0, 0))
        if small:
            colours = np.zeros((256, 3), np.uint8)
            colours[: len(palette)] = palette
            self._chunk(b'PLTE', colours.tobytes())

    def write(self, block: NDArray[Any]) -> None:
        rows = block.astype(block.dtype.newbyteorder('>')).view(np.uint8).reshape(len(block), -1)
        content = self.compressor.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes())
        if content:
            self._chunk(b'IDAT', content)

    def finish(self) -> None:
        self._chunk(b'IDAT', self.compressor.flush())
        self._chunk(b'IEND', b'')

    def _chunk(self, kind: bytes, content: bytes) -> None:
        check = struct.pack('>I', zlib.crc32(kind + content))
        self.file.write(struct.pack('>I', len(content)) + kind + content + check)


@contextlib.contextmanager
def open_label_file(
    path: str | Path, raster: Raster, classes: Sequence[str], palette: NDArray[np.uint8]
) -> Iterator[LabelSink]:
    """Open a file for the labels of an image; it appears when it is complete.

    Raises:
        ValueError: The suffix is neither .png nor .tif, or rasterio is missing for .tif.
    """
    suffix = Path(path).suffix.lower()
    if suffix == '.png':
        with replacing(path) as temporary, open(temporary, 'wb') as file:
            png = _Png(raster, classes, palette, file)
            yield png
            png.finish()
    elif suffix in ('.tif', '.tiff'):
        rasterio = import_rasterio(f'{path}: writing GeoTIFF')
        with (
            replacing(path) as temporary,
            raster_settings(rasterio),
            _create(rasterio, temporary, raster, classes, palette) as dataset,
        ):
            yield _GeoTiff(raster, classes, dataset)
    else:
        raise ValueError(f'{path}: labels are written as .png or .tif.')


def _create(
    rasterio: Any,
    path: Path,
    raster: Raster,
    classes: Sequence[str],
    palette: NDArray[np.uint8],
) -> Any:
    plan = LabelSink(raster, classes)
    georeference = {k: v for k, v in raster.georeference.items() if v is not None}
    dataset = rasterio.open(
        path,
        'w',
        driver='GTiff',
        height=raster.height,
        width=raster.width,
        count=1,
        dtype=plan.dtype.name,
        nodata=plan.nodata,
        tiled=True,
        blockxsize=_BLOCK,
        blockysize=_BLOCK,
        compress='deflate',
        bigtiff='if_safer',
        **georeference,
    )
    if plan.dtype == np.uint8:
        colours = {i: (*map(int, rgb), _SMALL) for i, rgb in enumerate(palette)}
        dataset.write_colormap(1, {**colours, plan.nodata: (0, 0, 0, 0)})
    dataset.update_tags(CLASSES=json.dumps(list(classes)))
    return dataset
