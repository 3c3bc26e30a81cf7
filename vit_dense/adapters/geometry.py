"""Positions of the ViT's and the pyramid's tokens relative to each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..layers import GridSize
from ..ops import SamplingGrid


class TokenGeometry:
    """Reference points of the deformable attention between ViT and pyramid, in both directions.

    All grids start at the image's upper left corner, with cells of `stride` pixels. Positions are
    in pixels, so that they agree for patches of any size and for maps with rounded-up sizes.

    Attributes:
        pyramid_shapes: (h, w) of the pyramid's levels.
        vit_in_pyramid: Reference points of the ViT's tokens (h*w) in each level.
        pyramid_in_vit: Reference points of the pyramid's tokens (S) in the ViT's grid.
    """

    def __init__(
        self,
        vit_shape: GridSize,
        patch_size: int,
        pyramid_shapes: Sequence[GridSize],
        pyramid_strides: Sequence[int],
        device: torch.device,
    ) -> None:
        self.pyramid_shapes = list(pyramid_shapes)
        patches = _reference_points([vit_shape], [patch_size], device)
        cells = _reference_points(pyramid_shapes, pyramid_strides, device)
        self.vit_in_pyramid = SamplingGrid.of(patches, self.pyramid_shapes, pyramid_strides)
        self.pyramid_in_vit = SamplingGrid.of(cells, [vit_shape], [patch_size])


class PyramidGeometry:
    """Reference points of the pyramid's tokens in the pyramid, and the grids of both branches.

    Attributes:
        vit_shape: (h, w) of the ViT's tokens, with cells of `patch_size` pixels.
        patch_size: Edge of a patch, in pixels.
        shapes: (h, w) of the pyramid's levels.
        strides: Edges of the levels' cells, in pixels.
        pyramid_in_pyramid: Reference points of the pyramid's tokens (S) in each level.
    """

    def __init__(
        self,
        vit_shape: GridSize,
        patch_size: int,
        pyramid_shapes: Sequence[GridSize],
        pyramid_strides: Sequence[int],
        device: torch.device,
    ) -> None:
        self.vit_shape = vit_shape
        self.patch_size = patch_size
        self.shapes = list(pyramid_shapes)
        self.strides = tuple(pyramid_strides)
        cells = _reference_points(pyramid_shapes, pyramid_strides, device)
        self.pyramid_in_pyramid = SamplingGrid.of(cells, self.shapes, pyramid_strides)


def _reference_points(
    shapes: Sequence[GridSize], strides: Sequence[int], device: torch.device
) -> Tensor:
    """Return the centres (x, y) of the grids' cells in pixels, (sum of h*w, 2)."""
    points = []
    for shape, stride in zip(shapes, strides, strict=True):
        y, x = (
            (torch.arange(cells, device=device, dtype=torch.float32) + 0.5) * stride
            for cells in shape
        )
        points.append(torch.stack((x.repeat(len(y)), y.repeat_interleave(len(x))), dim=-1))
    return torch.cat(points)
