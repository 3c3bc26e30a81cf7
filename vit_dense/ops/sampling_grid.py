"""Where the queries of deformable attention stand, and where their offsets lead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

SpatialShapes = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class SamplingGrid:
    """Where queries stand in the pyramid that they look into; made once per forward.

    Attributes:
        centres: (Lq, 2), (x, y) of each query, in pixels.
        shapes: (h, w) of each level, in tokens.
        per_pixel: (levels, 2), what one pixel is of each level's width and height.
        per_token: (levels, 2), what one token is of them.
    """

    centres: Tensor
    shapes: tuple[tuple[int, int], ...]
    per_pixel: Tensor
    per_token: Tensor

    @classmethod
    def of(cls, centres: Tensor, shapes: SpatialShapes, strides: Sequence[int]) -> SamplingGrid:
        """Queries at `centres` among levels whose cells have `strides` pixels."""
        tokens = [[1 / w, 1 / h] for h, w in shapes]
        pixels = [[x / s, y / s] for (x, y), s in zip(tokens, strides, strict=True)]
        # one copy to the device for all layers that share the grid
        sizes = torch.tensor([pixels, tokens]).to(centres.device, non_blocking=True)
        return cls(centres, tuple(shapes), sizes[0], sizes[1])

    def locations(self, offsets: Tensor) -> Tensor:
        """Where each query looks, normalised to each level's extent.

        Args:
            offsets: (B, Lq, heads, levels, points, 2) from the query's place, in tokens of the
                level.

        Returns:
            the same shape; on CPUs x and y lie apart in memory.
        """
        return self._apart(offsets) if offsets.device.type == 'cpu' else self._broadcast(offsets)

    def _broadcast(self, offsets: Tensor) -> Tensor:
        places = self.centres[:, None] * self.per_pixel  # (Lq, levels, 2)
        return places[:, None, :, None] + offsets * self.per_token[:, None]

    def _apart(self, offsets: Tensor) -> Tensor:
        """x, then y, each without short dimensions: see `ms_deform_attn._corners`."""
        per_pixel, per_token = (
            x[:, None].expand(*offsets.shape[2:]).flatten(0, 2)
            for x in (self.per_pixel, self.per_token)
        )  # (heads * levels * points, 2)
        axes = [
            offsets[..., i].flatten(2) * per_token[:, i]
            + self.centres[:, i, None] * per_pixel[:, i]
            for i in (0, 1)
        ]  # (B, Lq, heads * levels * points)
        return torch.stack(axes).view(2, *offsets.shape[:-1]).movedim(0, -1)
