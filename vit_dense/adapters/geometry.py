"""Where the ViT's tokens and the pyramid's lie relative to each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..layers import GridSize
from ..ops import SamplingGrid


class TokenGeometry:
    """Reference points of the deformable attention between ViT and pyramid, in both directions.

    All grids start at the image's upper left corner, with cells of `stride` pixels. Centres are in
    pixels, so that patches of any size and maps whose sizes were rounded up meet at the same ones.

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
        patches = _centres([vit_shape], [patch_size], device)
        cells = _centres(pyramid_shapes, pyramid_strides, device)
        self.vit_in_pyramid = SamplingGrid.of(patches, self.pyramid_shapes, pyramid_strides)
        self.pyramid_in_vit = SamplingGrid.of(cells, [vit_shape], [patch_size])


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
        centres = _centres(pyramid_shapes, pyramid_strides, device)
        self.places = SamplingGrid.of(centres, self.shapes, pyramid_strides)


def _centres(shapes: Sequence[GridSize], strides: Sequence[int], device: torch.device) -> Tensor:
    """(sum of h*w, 2), the centres (x, y) of the grids' cells, in pixels."""
    centres = []
    for shape, stride in zip(shapes, strides, strict=True):
        y, x = (
            (torch.arange(cells, device=device, dtype=torch.float32) + 0.5) * stride
            for cells in shape
        )
        centres.append(torch.stack((x.repeat(len(y)), y.repeat_interleave(len(x))), dim=-1))
    return torch.cat(centres)
