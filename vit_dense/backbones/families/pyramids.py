"""What hierarchical families need in order to take images of any size; most need nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from timm.layers import resample_abs_pos_embed
from timm.models import hiera, maxxvit
from torch import Tensor

from .registry import FAMILIES, timm_module

_PARTITIONED = (
    maxxvit.PartitionAttentionCl,
    maxxvit.PartitionAttention2d,
    maxxvit.ParallelPartitionAttention,
)


class PyramidFamily:
    """A hierarchical model that takes images of any size as timm builds it.

    Attributes:
        build_kwargs: arguments that make timm accept any image size.
    """

    build_kwargs: Mapping[str, Any] = {}

    def prepare(self, model: Any) -> None:
        """Adapts a freshly built timm model to images of any size."""

    def divisor(self, model: Any) -> int:
        """What image sizes must be multiples of, in pixels; at least the last stride."""
        return 32

    def set_size(self, model: Any, size: tuple[int, int]) -> None:
        """Adapts the model to the image (H, W) that comes next."""


class SwinFamily(PyramidFamily):
    """Swin: windows shift in every stage.

    timm switches the shift off where the trained image is one window. Larger images have several
    there, which only shifted windows connect; the authors' dense models shift always.
    """

    build_kwargs: Mapping[str, Any] = {'strict_img_size': False, 'always_partition': True}


class SwinV2Family(PyramidFamily):
    """SwinV2, also timm's reading of it (`swinv2_cr`): masks are made for the image at hand."""

    build_kwargs: Mapping[str, Any] = {'strict_img_size': False}


class _AnySizeHiera(hiera.Hiera):
    """Hiera whose learned positions are resized to the grid at hand."""

    def _pos_embed(self, x: Tensor) -> Tensor:
        grid = self.unroll.size
        if self.pos_embed_win is not None or grid == self.tokens_spatial_shape:
            return super()._pos_embed(x)
        return x + resample_abs_pos_embed(
            self.pos_embed,
            new_size=grid,
            old_size=self.tokens_spatial_shape,
            num_prefix_tokens=0,
        )


class HieraFamily(PyramidFamily):
    """Hiera: the order of its tokens, and with it its windows, follows from the image size."""

    def prepare(self, model: Any) -> None:
        model.__class__ = _AnySizeHiera

    def set_size(self, model: Any, size: tuple[int, int]) -> None:
        grid = [pixels // stride for pixels, stride in zip(size, model.patch_stride, strict=True)]
        if grid == model.unroll.size:
            return
        schedule = [model.q_stride] * (len(model.stage_ends) - 1)
        model.unroll = hiera.Unroll(size, model.patch_stride, schedule)
        model.reroll = hiera.Reroll(
            size, model.patch_stride, schedule, model.stage_ends, model.q_pool
        )
        model.mask_spatial_shape = [
            cells // unit for cells, unit in zip(grid, model.mask_unit_size, strict=True)
        ]


class MobileVitFamily(PyramidFamily):
    """MobileViT: attention among every second cell; maps of odd size would be resized to even."""

    def divisor(self, model: Any) -> int:
        return 64


class MaxVitFamily(PyramidFamily):
    """MaxViT: windows and grids of one size that divide the maps. CoAtNet has no such."""

    def divisor(self, model: Any) -> int:
        sizes = {part.partition_size for part in model.modules() if isinstance(part, _PARTITIONED)}
        return 32 * math.lcm(*(edge for size in sizes for edge in size))


PYRAMIDS: dict[str, PyramidFamily] = {
    'swin_transformer': SwinFamily(),
    'swin_transformer_v2': SwinV2Family(),
    'swin_transformer_v2_cr': SwinV2Family(),
    'hiera': HieraFamily(),
    'mobilevit': MobileVitFamily(),
    'maxxvit': MaxVitFamily(),
}
"""By the module of `timm.models`; hierarchical models of other modules need nothing."""


def find_pyramid_family(model_name: str) -> PyramidFamily:
    """The family of a timm model name, with or without a pretrained tag.

    Raises:
        ValueError: no such model or tag, or a plain ViT.
    """
    module = timm_module(model_name)
    if module in FAMILIES:
        raise ValueError(
            f'model_name={model_name!r} is a plain ViT (timm.models.{module}), which has one '
            f"stride: use backbone=dict(type='ViTAdapter', vit=dict(type='TimmViT', "
            f'model_name={model_name!r}))'
        )
    return PYRAMIDS.get(module, PyramidFamily())
