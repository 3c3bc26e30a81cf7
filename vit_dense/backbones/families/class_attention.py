"""ViTs whose cls token joins after the blocks, in class attention: CaiT and XCiT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from timm.layers import resample_abs_pos_embed
from torch import Tensor

from ..windows import Tile
from .base import Family, TokenContext, accept_any_size, share_drop_paths


class CaitFamily(Family):
    """CaiT: talking heads; the class attention after the blocks is not used."""

    build_kwargs: Mapping[str, Any] = {}
    no_rollout = 'its talking heads mix the attention of all heads, with weights of both signs'

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
    """XCiT: attention between channels, and convolutions on the grid."""

    build_kwargs: Mapping[str, Any] = {}
    no_dropping = 'its blocks have convolutions on the grid'
    no_windows = no_attention = 'it attends between channels, not between tokens'

    def prepare(self, model: Any) -> None:
        leave_out_cls(model, 'cls_attn_blocks')

    def patch_size(self, model: Any) -> tuple[int, int]:
        return model.patch_embed.patch_size, model.patch_embed.patch_size

    def embed(self, model: Any, image: Tensor) -> tuple[Tensor, TokenContext]:
        tokens, grid = model.patch_embed(image)
        if model.pos_embed is not None:
            positions = model.pos_embed(tokens.shape[0], *grid)  # (B, C, h, w)
            tokens = tokens + positions.flatten(2).transpose(1, 2)
        return model.pos_drop(tokens), TokenContext(grid)

    def block_kwargs(
        self, model: Any, context: TokenContext, index: int, tile: Tile | None
    ) -> dict[str, Any]:
        height, width = context.grid
        return {'H': height, 'W': width}


def leave_out_cls(model: Any, blocks: str = '') -> None:
    """Remove the cls token and the `blocks` of class attention.

    The token stays as a buffer, so that weight files match.
    """
    token = model.cls_token.detach()
    del model.cls_token
    model.register_buffer('cls_token', token)
    if blocks:
        setattr(model, blocks, None)
    model.num_prefix_tokens = 0
