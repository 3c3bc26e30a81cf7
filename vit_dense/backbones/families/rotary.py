"""EVA and its kin: rotary positions."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..windows import Tile
from .base import Family, TokenContext


class EvaFamily(Family):
    """EVA, EVA-02, DINOv3, Perception Encoder: optional rotary positions, given to each block."""

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
        mixed = rope.dim() > 2  # a rotation of its own per block and head
        if tile is None:
            return {'rope': rope[index] if mixed else rope}
        key = ('rope', tile, index if mixed else None)
        if key not in context.cache:
            heads = rope[index] if mixed else rope[None]  # (heads or 1, h*w, D)
            # (heads * windows, tokens of a window, D)
            split = tile.split(heads.unflatten(1, context.grid))
            split = split.unflatten(0, (heads.shape[0], -1)).transpose(0, 1)
            context.cache[key] = split.repeat(context.cache['batch'], 1, 1, 1)
        return {'rope': context.cache[key]}
