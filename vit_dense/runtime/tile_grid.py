"""Where the tiles of an image lie, and where they are blended."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TileAxis:
    """The tiles along one edge of an image, in pixels.

    Args:
        starts, stops: Of each tile. Without blending, neighbours share at least `overlap` pixels.
        joins: First pixel of each blended zone, one fewer than tiles. Zones lie in the middle of
            what neighbours share, so that pixels near the edge of a tile, which see less of their
            surroundings, are not used.
        blend: Pixels of each zone.
    """

    starts: tuple[int, ...]
    stops: tuple[int, ...]
    joins: tuple[int, ...]
    blend: int

    def __len__(self) -> int:
        return len(self.starts)

    def used(self, index: int) -> tuple[int, int]:
        """Return the first and last (excluded) pixel that a tile contributes to."""
        first = self.joins[index - 1] if index else 0
        last = self.joins[index] + self.blend if index < len(self.joins) else self.stops[-1]
        return first, last

    def weights(self) -> NDArray[np.float32]:
        """Return the weights `(blend,)` of the second tile in a zone; the first has 1 - weight."""
        position = (np.arange(self.blend, dtype=np.float32) + 0.5) / max(self.blend, 1)
        return (position**2 * (3 - 2 * position)).astype(np.float32)


def split_axis(
    length: int, tile: int, overlap: int, *, align: int = 1, limit: int | None = None
) -> TileAxis:
    """Cover `length` pixels with tiles.

    Every tile starts at a multiple of `align`. The last one is moved inwards, and ends with the
    image: with `align` above 1 it can be up to `align - 1` pixels smaller than the others.

    Args:
        length: Edge of the image.
        tile: Edge of a tile; a shorter image is one tile.
        overlap: Pixels that neighbouring tiles share, at least. Half of them are blended.
        align: Distance of the pixels at which tiles can start.
        limit: Maximum number of blended pixels in a zone.

    Raises:
        ValueError: Tiles of this size cannot overlap by so much.
    """
    if tile < 1 or not 0 <= overlap <= tile // 2:
        raise ValueError(
            f'tile={tile}, overlap={overlap}: tiles have at least 1 pixel and overlap by at most '
            f'half of their edge, 0..{max(tile // 2, 0)}.'
        )
    if length <= tile:
        return TileAxis((0,), (length,), (), 0)
    step = (tile - overlap) // align * align
    if step < 1:
        raise ValueError(
            f'tile={tile}, overlap={overlap}: tiles of this model start at multiples of {align} '
            f'pixels, so that tile - overlap must be at least {align}.'
        )
    last = math.ceil((length - tile) / align) * align
    starts = (*range(0, last, step), last)
    stops = tuple(min(start + tile, length) for start in starts)
    middles = [(starts[i + 1] + stops[i]) // 2 for i in range(len(starts) - 1)]
    # Zones do not meet: at most two tiles contribute to a pixel.
    blend = min([overlap // 2, *np.diff(middles).tolist()])
    blend = blend if limit is None else min(blend, limit)
    return TileAxis(starts, stops, tuple(middle - blend // 2 for middle in middles), blend)
