"""Where the ViT's tokens and the pyramid's lie relative to each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..layers import GridSize


class TokenGeometry:
    """Reference points of the deformable attention between ViT and pyramid, in both directions.

    All grids start at the image's upper left corner, with cells of `stride` pixels. A token's
    centre is expressed in the extent of the grid it looks into, so that patches of any size and
    maps whose sizes were rounded up point at the same pixels.

    Attributes:
        vit_shape: (h, w) of the ViT's tokens.
        pyramid_shapes: (h, w) of the pyramid's levels.
        vit_in_pyramid: (h*w, levels, 2), the ViT tokens' (x, y) in each level, 0..1.
        pyramid_in_vit: (S, 1, 2), the pyramid tokens' (x, y) in the ViT's grid, 0..1.
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
        self.pyramid_shapes = list(pyramid_shapes)
        vit = _centres(vit_shape, patch_size, device)
        levels = list(zip(pyramid_shapes, pyramid_strides, strict=True))
        pyramid = torch.cat([_centres(shape, stride, device) for shape, stride in levels])
        self.vit_in_pyramid = torch.stack(
            [vit / _extent(shape, stride, device) for shape, stride in levels], dim=1
        )
        self.pyramid_in_vit = (pyramid / _extent(vit_shape, patch_size, device))[:, None]


def _centres(shape: GridSize, stride: int, device: torch.device) -> Tensor:
    """(h*w, 2), the cells' centres (x, y) in pixels, row by row."""
    y, x = (
        (torch.arange(size, device=device, dtype=torch.float32) + 0.5) * stride for size in shape
    )
    return torch.stack((x.repeat(len(y)), y.repeat_interleave(len(x))), dim=-1)


def _extent(shape: GridSize, stride: int, device: torch.device) -> Tensor:
    """(2,), the grid's width and height in pixels."""
    h, w = shape
    return torch.tensor([w * stride, h * stride], device=device, dtype=torch.float32)
