"""BEiT and timm's relative-position ViTs: biases between tokens for the current grid.

Tables of the trained grid are used unchanged. For other grids they are resized bicubically in every
forward, so that one set of parameters serves all image sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import RelPosMlp, gen_relative_position_index, resample_abs_pos_embed
from timm.layers.pos_embed_rel import gen_relative_log_coords
from timm.models import beit, vision_transformer_relpos
from torch import Tensor

from ..windows import Tile
from .base import Family, TokenContext, accept_any_size

_TABLES = 'its blocks add a relative position table of the whole grid'


class _ExternalBiasAttention(beit.Attention):
    """BEiT attention whose relative bias is an argument, as the module does not know the grid."""

    def _get_rel_pos_bias(self) -> Tensor:
        return self.relative_position_bias_table.new_zeros(())


class BeitFamily(Family):
    """BEiT, BEiT v2: relative position tables, shared or by block."""

    build_kwargs: Mapping[str, Any] = {}
    no_dropping = _TABLES

    def prepare(self, model: Any) -> None:
        accept_any_size(model)
        for block in model.blocks:
            if block.attn.relative_position_bias_table is not None:
                block.attn.__class__ = _ExternalBiasAttention

    def embed(self, model: Any, image: Tensor) -> tuple[Tensor, TokenContext]:
        grid = model.patch_embed.dynamic_feat_size(tuple(image.shape[-2:]))
        tokens = model.patch_embed(image)
        tokens = torch.cat((model.cls_token.expand(tokens.shape[0], -1, -1), tokens), dim=1)
        if model.pos_embed is not None:
            tokens = tokens + resample_abs_pos_embed(
                model.pos_embed, new_size=grid, old_size=model.patch_embed.grid_size
            )
        return model.pos_drop(tokens), TokenContext(grid)

    def block_kwargs(
        self, model: Any, context: TokenContext, index: int, tile: Tile | None
    ) -> dict[str, Any]:
        if model.rel_pos_bias is None:
            return {'shared_rel_pos_bias': None}
        key = ('shared bias', tile and tile.shape)
        if key not in context.cache:
            context.cache[key] = self._bias(model, model.rel_pos_bias, tile, context)
        return {'shared_rel_pos_bias': context.cache[key]}

    def recomputed_kwargs(
        self, model: Any, context: TokenContext, index: int, tile: Tile | None
    ) -> dict[str, Any]:
        attn = model.blocks[index].attn
        if attn.relative_position_bias_table is None:
            return {}
        bias = self._bias(model, attn, tile, context)[None]
        shared = self.block_kwargs(model, context, index, tile)['shared_rel_pos_bias']
        return {'shared_rel_pos_bias': bias if shared is None else bias + shared}

    @staticmethod
    def _bias(model: Any, owner: Any, tile: Tile | None, context: TokenContext) -> Tensor:
        """Return (heads, 1 + h*w, 1 + h*w) of `owner`'s table, for the grid or a tile's windows."""
        trained = tuple(model.patch_embed.grid_size)
        return _table_bias(owner.relative_position_bias_table, trained, tile, context, prefix=1)


class _GivenBiasAttention(vision_transformer_relpos.RelPosAttention):
    """timm's attention with a given bias: its own module knows the trained grid only."""

    def forward(self, x: Tensor, shared_rel_pos: Tensor | None = None) -> Tensor:
        """Attend within (B, N, C) with a bias (1, heads, N, N)."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim))
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, heads, N, D)
        q, k = self.q_norm(q), self.k_norm(k)
        if self.fused_attn:
            dropout = self.attn_drop.p if self.training else 0.0
            x = F.scaled_dot_product_attention(q, k, v, attn_mask=shared_rel_pos, dropout_p=dropout)
        else:
            attention = q * self.scale @ k.transpose(-2, -1)
            if shared_rel_pos is not None:
                attention = attention + shared_rel_pos
            x = self.attn_drop(attention.softmax(dim=-1)) @ v
        return self.proj_drop(self.proj(x.transpose(1, 2).flatten(2)))


class RelPosFamily(Family):
    """vision_transformer_relpos: a table or a small MLP over distances, shared or by block."""

    build_kwargs: Mapping[str, Any] = {}
    no_dropping = _TABLES

    def prepare(self, model: Any) -> None:
        accept_any_size(model)
        for block in model.blocks:
            block.attn.__class__ = _GivenBiasAttention

    def embed(self, model: Any, image: Tensor) -> tuple[Tensor, TokenContext]:
        grid = model.patch_embed.dynamic_feat_size(tuple(image.shape[-2:]))
        tokens = model.patch_embed(image)
        if model.cls_token is not None:
            tokens = torch.cat((model.cls_token.expand(tokens.shape[0], -1, -1), tokens), dim=1)
        return tokens, TokenContext(grid)

    def block_kwargs(
        self, model: Any, context: TokenContext, index: int, tile: Tile | None
    ) -> dict[str, Any]:
        if model.shared_rel_pos is None:
            return {}
        key = ('shared bias', tile and tile.shape)
        if key not in context.cache:
            context.cache[key] = self._bias(model.shared_rel_pos, tile, context)
        return {'shared_rel_pos': context.cache[key]}

    def recomputed_kwargs(
        self, model: Any, context: TokenContext, index: int, tile: Tile | None
    ) -> dict[str, Any]:
        if model.shared_rel_pos is not None:
            return {}
        return {'shared_rel_pos': self._bias(model.blocks[index].attn.rel_pos, tile, context)}

    @staticmethod
    def _bias(owner: Any, tile: Tile | None, context: TokenContext) -> Tensor:
        """Return (1, heads, P + h*w, P + h*w) for the grid or a tile's windows."""
        prefix = owner.prefix_tokens
        if not isinstance(owner, RelPosMlp):
            table, trained = owner.relative_position_bias_table, tuple(owner.window_size)
            return _table_bias(table, trained, tile, context, prefix=prefix)[None]
        grid = context.grid if tile is None else (tile.window, tile.window)
        coords = gen_relative_log_coords(
            grid,
            owner.pretrained_window_size,
            mode=owner.mode,
            device=owner.rel_coords_log.device,
            dtype=owner.rel_coords_log.dtype,
        )
        distances = owner.mlp(coords).flatten(0, 1)  # ((2h-1)(2w-1), heads)
        index = _relative_index(grid, tile, context, prefix=0, device=coords.device)
        bias = distances[index.flatten()].unflatten(0, index.shape).permute(2, 0, 1)
        bias = owner.bias_act(bias)
        if owner.bias_gain is not None:
            bias = owner.bias_gain * bias
        return F.pad(bias, (prefix, 0, prefix, 0))[None].contiguous()


def _table_bias(
    table: Tensor,
    trained: tuple[int, ...],
    tile: Tile | None,
    context: TokenContext,
    *,
    prefix: int,
) -> Tensor:
    """Return (heads, N, N) of a table ((2h-1)(2w-1), and 3 rows for a cls token; heads)."""
    grid = context.grid if tile is None else (tile.window, tile.window)
    if trained != grid:
        extra = len(table) - (3 if prefix else 0)
        maps = table[:extra].T.unflatten(1, [2 * s - 1 for s in trained])[None]
        new = [2 * s - 1 for s in grid]
        maps = F.interpolate(maps, size=new, mode='bicubic', align_corners=False)
        table = torch.cat((maps[0].flatten(1).T, table[extra:]))
    index = _relative_index(grid, tile, context, prefix=prefix, device=table.device)
    return table[index.flatten()].unflatten(0, index.shape).permute(2, 0, 1).contiguous()


def _with_class_token(index: Tensor, count: int) -> Tensor:
    """Add the rows of a table for the class token, behind the `count` of patches, to (N, N).

    As timm does, but not in place, which cannot be exported.
    """
    to_patches, from_patches, to_itself = count, count + 1, count + 2
    below = torch.cat((index.new_full((len(index), 1), from_patches), index), dim=1)
    top = index.new_full((1, below.shape[1]), to_patches)
    top = torch.cat((index.new_full((1, 1), to_itself), top[:, 1:]), dim=1)
    return torch.cat((top, below))


def _relative_index(
    grid: tuple[int, int],
    tile: Tile | None,
    context: TokenContext,
    *,
    prefix: int,
    device: torch.device,
) -> Tensor:
    """Return the row of a table for each pair of tokens, (N, N)."""
    shape = grid if tile is None else tile.shape
    key = ('bias index', grid, shape, prefix)
    if key not in context.cache:
        index = gen_relative_position_index(grid, device=device)
        if prefix:
            index = _with_class_token(index, (2 * grid[0] - 1) * (2 * grid[1] - 1))
        if shape != grid:  # a smaller window is the upper left part of a whole one
            inside = torch.arange(grid[0] * grid[1], device=device).unflatten(0, grid)
            inside = inside[: shape[0], : shape[1]].flatten() + prefix
            inside = F.pad(inside, (prefix, 0))  # and the cls token
            index = index[inside[:, None], inside]
        context.cache[key] = index
    return context.cache[key]
