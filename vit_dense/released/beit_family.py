"""BEiT as the released detection models have it: windows in every block, and no cls token.

Source: the released code of ViT-Adapter for detection. Each block has a table of relative positions
for windows of its own size. Normalised tokens are filled up with zeros to whole windows before the
projection to query, key and value, and nothing masks them: such a key is zero, as keys have no
bias there, its value is the values' bias, and its logit the bias of its position.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import gen_relative_position_index
from timm.models import beit
from torch import Tensor, nn

from ..backbones.families import TokenContext
from ..backbones.families.relative import BeitFamily
from ..backbones.windows import Tile


class PaddedBeitAttention(beit.Attention):
    """BEiT's attention with the keys and values of tokens that are zero."""

    def forward(self, x: Tensor, shared_rel_pos_bias: Tensor | None = None) -> Tensor:
        """Attend to (B, N, C) tokens and to the zeros beside them.

        Args:
            x: (B, N, C).
            shared_rel_pos_bias: (heads, N, N + zeros), the bias of all positions.

        Returns:
            (B, N, C).
        """
        assert shared_rel_pos_bias is not None
        zeros = shared_rel_pos_bias.shape[-1] - x.shape[1]
        bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        qkv = F.linear(x, self.qkv.weight, bias).unflatten(-1, (3, self.num_heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, heads, N, D)
        filling = self.v_bias.view(1, self.num_heads, 1, -1).expand(len(x), -1, zeros, -1)
        x = F.scaled_dot_product_attention(
            q,
            F.pad(k, (0, 0, 0, zeros)),
            torch.cat((v, filling), dim=2),
            attn_mask=shared_rel_pos_bias.to(q.dtype),
            dropout_p=self.attn_drop.p if self.training else 0.0,
        )
        return self.proj_drop(self.proj(x.transpose(1, 2).flatten(2)))


class ReleasedBeitFamily(BeitFamily):
    """BEiT in windows with tables of their own size, without a cls token.

    Args:
        window_sizes: Edge of each block's windows, in tokens.
    """

    def __init__(self, window_sizes: Sequence[int]) -> None:
        self.window_sizes = tuple(window_sizes)

    def prepare(self, model: Any) -> None:
        """Adapt a freshly built BEiT.

        Raises:
            ValueError: If there is not one window size for each block, or if positions are not
                tables by block.
        """
        super().prepare(model)
        if len(self.window_sizes) != len(model.blocks):
            raise ValueError(
                f'window_size={list(self.window_sizes)}: give one for each of the '
                f'{len(model.blocks)} blocks, as the released detectors on BEiT have it'
            )
        tables = [block.attn.relative_position_bias_table for block in model.blocks]
        if None in tables or model.pos_embed is not None:
            raise ValueError(
                'ReleasedTimmViT with window_size: the released detectors on BEiT have a table of '
                "relative positions in each block and no others; choose 'beit_large_patch16_224'"
            )
        del model.cls_token
        model.num_prefix_tokens = 0
        for block, table, edge in zip(model.blocks, tables, self.window_sizes, strict=True):
            shape = ((2 * edge - 1) ** 2, table.shape[1])
            block.attn.relative_position_bias_table = nn.Parameter(table.new_zeros(shape))
            block.attn.relative_position_index = None
            block.attn.__class__ = PaddedBeitAttention

    def embed(self, model: Any, image: Tensor) -> tuple[Tensor, TokenContext]:
        grid = model.patch_embed.dynamic_feat_size(tuple(image.shape[-2:]))
        return model.pos_drop(model.patch_embed(image)), TokenContext(grid)

    def recomputed_kwargs(
        self, model: Any, context: TokenContext, index: int, tile: Tile | None
    ) -> dict[str, Any]:
        assert tile is not None
        table = model.blocks[index].attn.relative_position_bias_table
        places = _places(tile, context, table.device)
        bias = table[places.flatten()].unflatten(0, places.shape)
        return {'shared_rel_pos_bias': bias.permute(2, 0, 1).contiguous()}


def _places(tile: Tile, context: TokenContext, device: torch.device) -> Tensor:
    """Return the rows of a table for all pairs, (N, N + zeros), the tokens of a tile first."""
    key = ('places', tile.shape, tile.window)
    if key not in context.cache:
        cells = torch.arange(tile.window**2, device=device).unflatten(0, (tile.window, -1))
        inside = torch.zeros_like(cells, dtype=torch.bool)
        inside[: tile.shape[0], : tile.shape[1]] = True
        order = torch.cat((cells[inside], cells[~inside]))
        index = gen_relative_position_index((tile.window, tile.window), device=device)
        context.cache[key] = index[cells[inside][:, None], order]
    return context.cache[key]
