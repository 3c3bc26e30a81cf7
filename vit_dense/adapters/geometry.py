"""Where the ViT's tokens and the pyramid's lie relative to each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..layers import GridSize
from ..ops import SamplingGrid


class TokenGeometry:
    """Reference points of the deformable attention between ViT and pyramid, in both directions.

    All grids start at the image's upper left corner, with cells of `stride` pixels. A token's
    centre is expressed in the extent of the grid it looks into, so that patches of any size and
    maps whose sizes were rounded up point at the same pixels.

    Attributes:
        pyramid_shapes: (h, w) of the pyramid's levels.
        vit_in_pyramid: the ViT tokens' (h*w) places in each level.
        pyramid_in_vit: the pyramid tokens' (S) places in the ViT's grid.
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
        levels = list(zip(pyramid_shapes, pyramid_strides, strict=True))
        in_levels = [_places(vit_shape, patch_size, *level, device) for level in levels]
        in_vit = [_places(*level, vit_shape, patch_size, device) for level in levels]
        self.vit_in_pyramid = SamplingGrid.of(torch.stack(in_levels, dim=1), self.pyramid_shapes)
        self.pyramid_in_vit = SamplingGrid.of(torch.cat(in_vit)[:, None], [vit_shape])


class PyramidGeometry:
    """Reference points of the pyramid's tokens among themselves, and the grids of both branches.

    Attributes:
        vit_shape: (h, w) of the ViT's tokens, with cells of `patch_size` pixels.
        patch_size: in pixels.
        shapes: (h, w) of the pyramid's levels.
        strides: their cells, in pixels.
        places: the pyramid tokens' (S) places in each level.
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
        levels = list(zip(pyramid_shapes, pyramid_strides, strict=True))
        in_level = [
            torch.cat([_places(*source, *target, device) for source in levels]) for target in levels
        ]
        self.places = SamplingGrid.of(torch.stack(in_level, dim=1), self.shapes)


def _places(
    shape: GridSize, stride: int, target: GridSize, target_stride: int, device: torch.device
) -> Tensor:
    """(h*w, 2), the centres (x, y) of a grid's cells, 0..1 over the extent of the target grid."""
    y, x = (
        (torch.arange(cells, device=device, dtype=torch.float32) + 0.5)
        * (stride / (target_cells * target_stride))
        for cells, target_cells in zip(shape, target, strict=True)
    )
    return torch.stack((x.repeat(len(y)), y.repeat_interleave(len(x))), dim=-1)
