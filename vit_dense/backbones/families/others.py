"""Isotropic ViTs that differ in one thing each: a stem, windows of their own, a cls token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed, resample_abs_pos_embed_nhwc
from timm.models import vision_transformer_sam
from torch import Tensor, nn

from ..windows import Tile
from .base import Family, TokenContext, accept_any_size, share_drop_paths


class HybridFamily(Family):
    """ViTs whose patches are cut from a small CNN's last map (ViTamin: three stages)."""

    def patch_size(self, model: Any) -> tuple[int, int]:
        height, width = model.patch_embed.feat_ratio(as_scalar=False)
        return int(height), int(width)

    def embed(self, model: Any, image: Tensor) -> tuple[Tensor, TokenContext]:
        # the CNN rounds sizes as its layers happen to: whole patches leave nothing to round
        height, width = image.shape[-2:]
        patch = self.patch_size(model)
        return super().embed(model, F.pad(image, (0, -width % patch[1], 0, -height % patch[0])))


class _FlatSamBlock(vision_transformer_sam.Block):
    """SAM's block on tokens in place of maps."""

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:  # type: ignore[override]
        """(B, h*w, C) -> (B, h*w, C)."""
        return super().forward(x.unflatten(1, grid)).flatten(1, 2)


class SamFamily(Family):
    """The encoder of Segment Anything, without its neck."""

    build_kwargs: Mapping[str, Any] = {}
    no_windows = 'its blocks have windows of their own'
    no_final_norm = 'its norms stand between the convolutions of its neck, which is left out'

    def prepare(self, model: Any) -> None:
        """
        Raises:
            ValueError: the model has rotary positions, which timm binds to one image size.
        """
        if model.rope_global is not None:
            raise ValueError(
                'model_kwargs=dict(use_rope=True): timm binds the rotary positions of this family '
                'to one image size; leave use_rope out'
            )
        accept_any_size(model)
        model.num_prefix_tokens = 0
        model.neck = model.norm = nn.Identity()
        for block in model.blocks:
            block.__class__ = _FlatSamBlock

    def embed(self, model: Any, image: Tensor) -> tuple[Tensor, TokenContext]:
        x = model.patch_embed(image)  # (B, h, w, C)
        grid = (x.shape[1], x.shape[2])
        if model.pos_embed is not None:
            x = x + resample_abs_pos_embed_nhwc(model.pos_embed, list(grid))
        x = model.norm_pre(model.patch_drop(model.pos_drop(x)))
        return x.flatten(1, 2), TokenContext(grid)

    def block_kwargs(
        self, model: Any, context: TokenContext, index: int, tile: Tile | None
    ) -> dict[str, Any]:
        return {'grid': context.grid}


class CaitFamily(Family):
    """CaiT: talking heads; the cls token joins after the blocks, where nothing here needs it."""

    build_kwargs: Mapping[str, Any] = {}

    def prepare(self, model: Any) -> None:
        accept_any_size(model)
        leave_out_cls(model, 'blocks_token_only')
        share_drop_paths(model)

    def embed(self, model: Any, image: Tensor) -> tuple[Tensor, TokenContext]:
        grid = model.patch_embed.dynamic_feat_size(tuple(image.shape[-2:]))
        positions = resample_abs_pos_embed(
            model.pos_embed,
            new_size=grid,
            old_size=model.patch_embed.grid_size,
            num_prefix_tokens=0,
        )
        return model.pos_drop(model.patch_embed(image) + positions), TokenContext(grid)


class XcitFamily(Family):
    """XCiT: attention between channels, and convolutions that need to know the grid."""

    build_kwargs: Mapping[str, Any] = {}
    no_windows = 'it attends between channels, not between tokens'

    def prepare(self, model: Any) -> None:
        leave_out_cls(model, 'cls_attn_blocks')

    def patch_size(self, model: Any) -> tuple[int, int]:
        return model.patch_embed.patch_size, model.patch_embed.patch_size

    def embed(self, model: Any, image: Tensor) -> tuple[Tensor, TokenContext]:
        tokens, grid = model.patch_embed(image)
        if model.pos_embed is not None:
            positions = model.pos_embed(len(tokens), *grid)  # (B, C, h, w)
            tokens = tokens + positions.flatten(2).transpose(1, 2)
        return model.pos_drop(tokens), TokenContext(grid)

    def block_kwargs(
        self, model: Any, context: TokenContext, index: int, tile: Tile | None
    ) -> dict[str, Any]:
        height, width = context.grid
        return {'H': height, 'W': width}


class NaFlexFamily(Family):
    """NaFlexViT on ordinary batches of images."""

    build_kwargs: Mapping[str, Any] = {'dynamic_img_pad': True}

    def prepare(self, model: Any) -> None:
        """
        Raises:
            ValueError: the model has rotary positions; no registered one does.
        """
        if model.rope is not None:
            raise ValueError(
                'model_kwargs=dict(rope_type=...): NaFlexViT is supported as timm registers it, '
                'without rotary positions; leave rope_type out'
            )

    def patch_size(self, model: Any) -> tuple[int, int]:
        height, width = model.embeds.patch_size
        return int(height), int(width)

    def embed(self, model: Any, image: Tensor) -> tuple[Tensor, TokenContext]:
        grid = model.embeds.dynamic_feat_size(tuple(image.shape[-2:]))
        embedded = model._forward_embeds(image, None, None, None)
        return embedded['patches'], TokenContext(grid)


def leave_out_cls(model: Any, blocks: str = '') -> None:
    """Removes the cls token and the `blocks` of class attention.

    The token stays as a buffer, for weight files to find its place.
    """
    token = model.cls_token.detach()
    del model.cls_token
    model.register_buffer('cls_token', token)
    if blocks:
        setattr(model, blocks, None)
    model.num_prefix_tokens = 0
