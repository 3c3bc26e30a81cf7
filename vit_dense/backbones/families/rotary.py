"""EVA and related models: rotary positions."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..windows import Tile
from .base import Family, TokenContext


class EvaFamily(Family):
    """EVA, EVA-02, DINOv3, Perception Encoder: optional rotary positions for each block."""

    def embed(self, model: Any, image: Tensor) -> tuple[Tensor, TokenContext]:
        grid = model.patch_embed.dynamic_feat_size(tuple(image.shape[-2:]))
        tokens, rope = model._pos_embed(model.patch_embed(image))
        return model.norm_pre(tokens), TokenContext(grid, rope)

    def block_kwargs(
        self, model: Any, context: TokenContext, index: int, tile: Tile | None
    ) -> dict[str, Any]:
        rope = context.rope
        if rope is None:
            return {'rope': None}
        if _differs_by_block(rope):
            return {}
        if tile is None:  # of kept patches (B, 1, K, D), for all heads
            return {'rope': rope if rope.dim() == 2 else rope[:, None]}
        key = ('rope', tile)
        if key not in context.cache:
            context.cache[key] = _split(rope[None], tile, context)
        return {'rope': context.cache[key]}

    def add_queries(
        self, model: Any, tokens: Tensor, context: TokenContext, queries: Tensor
    ) -> Tensor:
        """Insert queries, which are not rotated."""
        if context.rope is not None:
            sines, cosines = context.rope.chunk(2, dim=-1)
            before = (0, 0, len(queries), 0)
            context.rope = torch.cat((F.pad(sines, before), F.pad(cosines, before, value=1)), -1)
        return super().add_queries(model, tokens, context, queries)

    def recomputed_kwargs(
        self, model: Any, context: TokenContext, index: int, tile: Tile | None
    ) -> dict[str, Any]:
        rope = context.rope
        if rope is None or not _differs_by_block(rope):
            return {}
        return {'rope': rope[index] if tile is None else _split(rope[index], tile, context)}


def _differs_by_block(rope: Tensor) -> bool:
    return rope.dim() > 3  # (depth, heads, h*w, D), or of kept patches (depth, B, heads, K, D)


def _split(rope: Tensor, tile: Tile, context: TokenContext) -> Tensor:
    """Split (heads or 1, h*w, D) into (B * windows, heads or 1, tokens of a window, D)."""
    windows = tile.split(rope.unflatten(1, context.grid))  # (heads * windows, n, D)
    windows = windows.unflatten(0, (rope.shape[0], -1)).transpose(0, 1)
    return windows.repeat(context.cache['batch'], 1, 1, 1)
