"""Changes that hierarchical families need for images of any size; most need none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from timm.layers import resample_abs_pos_embed
from timm.models import hiera, maxxvit, swin_transformer_v2, swin_transformer_v2_cr
from torch import Tensor

from .registry import FAMILIES, check_supported, timm_module

_PARTITIONED = (
    maxxvit.PartitionAttentionCl,
    maxxvit.PartitionAttention2d,
    maxxvit.ParallelPartitionAttention,
)


class PyramidFamily:
    """A hierarchical model that accepts images of any size as timm builds it.

    Attributes:
        build_kwargs: Arguments that make timm accept any image size.
    """

    build_kwargs: Mapping[str, Any] = {}

    def prepare(self, model: Any) -> None:
        """Adapt a new timm model to images of any size."""

    def divisor(self, model: Any) -> int:
        """Return the multiple that image sizes must be of, in pixels; at least the last stride."""
        return 32

    def set_size(self, model: Any, size: tuple[int, int]) -> None:
        """Adapt the model to the size (H, W) of the next image."""


class SwinFamily(PyramidFamily):
    """Swin: windows shift in every stage.

    timm disables the shift where the trained image is one window. Larger images have several
    windows there, which only shifted windows connect; the authors' dense models always shift.
    """

    build_kwargs: Mapping[str, Any] = {'strict_img_size': False, 'always_partition': True}


class _ShiftedV2(swin_transformer_v2.SwinTransformerV2Block):
    """A block without a shift in timm, shifted along each axis with several windows."""

    def _attn(self, x: Tensor) -> Tensor:
        self.shift_size = _shift(self, x)
        return super()._attn(x)


class _ShiftedV2Cr(swin_transformer_v2_cr.SwinTransformerV2CrBlock):
    """`_ShiftedV2` for timm's own version of SwinV2."""

    def _shifted_window_attn(self, x: Tensor) -> Tensor:
        self.shift_size = _shift(self, x)
        return super()._shifted_window_attn(x)


def _never_shifts(block: Any) -> bool:
    """Tell whether timm disabled the shift of this second block of a pair."""
    return any(block.target_shift_size) and not any(block.shift_size)


def _shift(block: Any, x: Tensor) -> tuple[int, int]:
    """Return half a window where the map (B, h, w, C) is larger than one, 0 elsewhere."""
    sizes = zip(x.shape[1:3], block.window_size, strict=True)
    down, across = (window // 2 if size > window else 0 for size, window in sizes)
    return down, across


class SwinV2Family(PyramidFamily):
    """SwinV2 and timm's version of it (`swinv2_cr`): windows shift if there are several.

    timm decides by the trained image, whose last maps are one window: there it never shifts. A
    larger image has several windows there, which nothing would connect; they are shifted by half a
    window in every second block. Images up to the trained size give timm's maps.

    Windows keep their size in the trained model, which timm limits to the map (16 to 8 in the last
    stage of `swinv2_tiny_window16_256`), and `always_partition` is not used, unlike for Swin: the
    bias is a learned function of distance over window edge, so that a larger window would change
    the meaning of each trained distance. A shift moves windows and masks pairs; it needs no
    untrained bias.
    """

    build_kwargs: Mapping[str, Any] = {'strict_img_size': False}

    def prepare(self, model: Any) -> None:
        for module in model.modules():
            for kind in (_ShiftedV2, _ShiftedV2Cr):
                if type(module) is kind.__base__ and _never_shifts(module):
                    module.__class__ = kind


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
    """Hiera: the order of its tokens, and so its windows, depends on the image size."""

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
    """MobileViT: attention over every second cell; maps of odd size would be resized to even."""

    def divisor(self, model: Any) -> int:
        return 64


class MaxVitFamily(PyramidFamily):
    """MaxViT: windows and grids of one size that divide the maps. CoAtNet has none.

    Images are padded to multiples of 32 times the window: of 224 px for windows of 7 cells, so
    crops should be multiples of that. `model_kwargs=dict(img_size=...)` sets the windows to a 32nd
    of that size and resizes the trained tables: with 512, a crop of 512 px is not padded, and each
    window has 16x16 cells.
    """

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
"""Keys are modules of `timm.models`; hierarchical models of other modules need no changes."""


def find_pyramid_family(model_name: str) -> PyramidFamily:
    """Return the family of a timm model name, with or without a pretrained tag.

    Raises:
        ValueError: If there is no such model or tag, or if it is a plain ViT.
    """
    module = timm_module(model_name)
    check_supported(model_name, module)
    if module in FAMILIES:
        raise ValueError(
            f'model_name={model_name!r} is a plain ViT (timm.models.{module}), which has one '
            f"stride: use backbone=dict(type='ViTAdapter', vit=dict(type='TimmViT', "
            f'model_name={model_name!r}))'
        )
    return PYRAMIDS.get(module, PyramidFamily())
