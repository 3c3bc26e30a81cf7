"""The positions of the queries of deformable attention, and the positions their offsets lead to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

SpatialShapes = Sequence[tuple[int, int]]


class LevelSizes(NamedTuple):
    """The levels of a value pyramid as mmcv's kernel takes them.

    Attributes:
        sizes: (levels, 2), (h, w) of each level, int64.
        starts: (levels,), the index of each level's first token, int64.
    """

    sizes: Tensor
    starts: Tensor

    @classmethod
    def of(cls, shapes: SpatialShapes, device: torch.device) -> LevelSizes:
        """Copy the sizes to `device`."""
        sizes = torch.tensor(list(shapes), dtype=torch.long)
        starts = sizes.prod(1).cumsum(0) - sizes.prod(1)
        on_device = torch.cat((sizes, starts[:, None]), dim=1).to(device, non_blocking=True)
        return cls(on_device[:, :2].contiguous(), on_device[:, 2].contiguous())


@dataclass(frozen=True)
class SamplingGrid:
    """Reference points of queries in a value pyramid; made once per forward.

    Attributes:
        reference_points: (Lq, 2), (x, y) of each query, in pixels.
        shapes: (h, w) of each level, in tokens.
        per_pixel: (levels, 2), one pixel as a fraction of each level's width and height.
        per_token: (levels, 2), one token as a fraction of them.
    """

    reference_points: Tensor
    shapes: tuple[tuple[int, int], ...]
    per_pixel: Tensor
    per_token: Tensor

    @classmethod
    def of(
        cls, reference_points: Tensor, shapes: SpatialShapes, strides: Sequence[int]
    ) -> SamplingGrid:
        """Place queries at `reference_points` in levels whose cells have `strides` pixels."""
        tokens = [[1 / w, 1 / h] for h, w in shapes]
        pixels = [[x / s, y / s] for (x, y), s in zip(tokens, strides, strict=True)]
        # one copy to the device for all layers that share the grid
        units = torch.tensor([pixels, tokens], dtype=reference_points.dtype)
        units = units.to(reference_points.device, non_blocking=True)
        return cls(reference_points, tuple(shapes), units[0], units[1])

    @cached_property
    def level_sizes(self) -> LevelSizes:
        """`shapes` on the device: one copy for all layers that share the grid."""
        return LevelSizes.of(self.shapes, self.reference_points.device)

    def locations(self, offsets: Tensor) -> Tensor:
        """Return the sampling locations, normalised to each level's extent.

        Args:
            offsets: (B, Lq, heads, levels, points, 2) from the query's reference point, in tokens
                of the level.

        Returns:
            The same shape; on CPUs all x are stored before all y.
        """
        if offsets.device.type == 'cpu':
            return self._locations_by_axis(offsets)
        return self._locations_by_broadcast(offsets)

    def _locations_by_broadcast(self, offsets: Tensor) -> Tensor:
        points = self.reference_points[:, None] * self.per_pixel  # (Lq, levels, 2)
        return points[:, None, :, None] + offsets * self.per_token[:, None]

    def _locations_by_axis(self, offsets: Tensor) -> Tensor:
        """Compute x, then y, each without short dimensions: see `ms_deform_attn._corners`."""
        per_pixel, per_token = (
            x[:, None].expand(*offsets.shape[2:]).flatten(0, 2)
            for x in (self.per_pixel, self.per_token)
        )  # (heads * levels * points, 2)
        axes = [
            offsets[..., i].flatten(2) * per_token[:, i]
            + self.reference_points[:, i, None] * per_pixel[:, i]
            for i in (0, 1)
        ]  # (B, Lq, heads * levels * points)
        return torch.stack(axes).view(2, *offsets.shape[:-1]).movedim(0, -1)
