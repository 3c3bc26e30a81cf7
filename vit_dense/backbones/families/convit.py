"""ConViT (d'Ascoli et al. 2021): blocks with positional attention, then ordinary blocks.

A gate in each of the first blocks mixes attention by content with attention by distance, whose
offsets are computed here for the current grid. In timm the cls token joins after those blocks; here
it comes first and passes through them unchanged, which is equivalent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed
from timm.models import convit
from torch import Tensor

from ..windows import Tile
from .base import Family, TokenContext, accept_any_size, share_drop_paths
from .class_attention import leave_out_cls


class _PlacedBlock(convit.Block):
    """timm's block with given offsets; timm computes those of a square grid."""

    def forward(self, x: Tensor, offsets: Tensor) -> Tensor:  # type: ignore[override]
        """Run the block on all tokens but the first P.

        Args:
            x: (B, P + N, C), of which the first P tokens are returned unchanged.
            offsets: (1, N, N, 3), see `ConvitFamily`.

        Returns:
            (B, P + N, C).
        """
        self.attn.rel_indices = offsets
        prefix, patches = x.tensor_split([x.shape[1] - offsets.shape[1]], dim=1)
        return torch.cat((prefix, super().forward(patches)), dim=1)


class ConvitFamily(Family):
    """ConViT; the offsets between two tokens are columns, rows and the squared distance."""

    build_kwargs: Mapping[str, Any] = {}
    no_dropping = 'its first blocks attend by the offsets between all tokens of the grid'

    def prepare(self, model: Any) -> None:
        accept_any_size(model)
        share_drop_paths(model)
        local = [block for block in model.blocks if block.use_gpsa]
        for block in local:
            block.__class__ = _PlacedBlock
        if len(local) == len(model.blocks):  # it would join after the last block
            leave_out_cls(model)

    def embed(self, model: Any, image: Tensor) -> tuple[Tensor, TokenContext]:
        grid = model.patch_embed.dynamic_feat_size(tuple(image.shape[-2:]))
        tokens = model.patch_embed(image)
        if model.use_pos_embed:
            tokens = tokens + resample_abs_pos_embed(
                model.pos_embed,
                new_size=grid,
                old_size=model.patch_embed.grid_size,
                num_prefix_tokens=0,
            )
        tokens = model.pos_drop(tokens)
        if model.num_prefix_tokens:
            tokens = torch.cat((model.cls_token.expand(tokens.shape[0], -1, -1), tokens), dim=1)
        return tokens, TokenContext(grid)

    def block_kwargs(
        self, model: Any, context: TokenContext, index: int, tile: Tile | None
    ) -> dict[str, Any]:
        block = model.blocks[index]
        if not block.use_gpsa:
            return {}
        shape = context.grid if tile is None else tile.shape
        if shape not in context.cache:
            context.cache[shape] = _offsets(shape, block.attn.qk.weight)
        return {'offsets': context.cache[shape]}

    def token_attention(
        self, block: Any, attention: Tensor, tokens: int, grid: tuple[int, int]
    ) -> Tensor:
        """Add the prefix tokens that pass through unchanged, each attending to itself alone."""
        prefix = tokens - attention.shape[-1]
        if not prefix:
            return attention
        whole = F.pad(attention, (prefix, 0, prefix, 0))
        whole[..., :prefix, :prefix] = torch.eye(prefix, device=whole.device)
        return whole


def _offsets(grid: tuple[int, int], like: Tensor) -> Tensor:
    """Compute columns, rows and squared distance between all tokens, (1, N, N, 3)."""
    axes = [torch.arange(size, dtype=like.dtype, device=like.device) for size in grid]
    rows, columns = (axis.flatten() for axis in torch.meshgrid(*axes, indexing='ij'))
    across, down = columns - columns[:, None], rows - rows[:, None]
    return torch.stack((across, down, across**2 + down**2), dim=-1)[None]
