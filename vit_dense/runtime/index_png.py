"""Write label maps as PNG files of indices, row by row (PNG specification, third edition)."""

import struct
import zlib
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

_INDEXED, _GREY = 3, 0  # colour types


class IndexPng:
    """A PNG of 8-bit indices with a palette, or of 16 bits without: PNG has none for these.

    Rows are not filtered, which suits indices.

    Args:
        file: Opened for writing.
        size: Height and width.
        dtype: uint8 or uint16.
        palette: `(num_classes, 3)` uint8 RGB; other indices are black.
    """

    def __init__(
        self,
        file: BinaryIO,
        size: tuple[int, int],
        dtype: np.dtype[Any],
        palette: NDArray[np.uint8],
    ) -> None:
        if dtype not in (np.uint8, np.uint16):
            raise ValueError(f'PNG files have labels of uint8 or uint16; got {dtype}.')
        self.file = file
        self.compressor = zlib.compressobj()
        self.file.write(b'\x89PNG\r\n\x1a\n')
        colour = _INDEXED if dtype == np.uint8 else _GREY
        bits = 8 * dtype.itemsize
        self._chunk(b'IHDR', struct.pack('>IIBBBBB', size[1], size[0], bits, colour, 0, 0, 0))
        if colour == _INDEXED:
            colours = np.zeros((256, 3), np.uint8)
            colours[: len(palette)] = palette
            self._chunk(b'PLTE', colours.tobytes())

    def write(self, block: NDArray[Any]) -> None:
        """Append `(h, W)` labels."""
        rows = block.astype(block.dtype.newbyteorder('>')).view(np.uint8).reshape(len(block), -1)
        content = self.compressor.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes())
        if content:
            self._chunk(b'IDAT', content)

    def finish(self) -> None:
        """Write the end, after the last row."""
        self._chunk(b'IDAT', self.compressor.flush())
        self._chunk(b'IEND', b'')

    def _chunk(self, kind: bytes, content: bytes) -> None:
        check = struct.pack('>I', zlib.crc32(kind + content))
        self.file.write(struct.pack('>I', len(content)) + kind + content + check)
