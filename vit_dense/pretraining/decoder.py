"""The decoder of masked autoencoders (He et al. 2022), which only pretraining uses."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from timm.layers import LayerNorm
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from ..layers import GridSize, sincos_positions, tokens_to_map


class MaskedDecoder(nn.Module):
    """A narrow ViT on all patches: encoded where visible, one learned mask token elsewhere.

    Prefix tokens of the encoder are kept in front, without positions.
    """

    def __init__(
        self,
        in_channels: int,
        outputs: Mapping[str, int],
        *,
        width: int = 512,
        depth: int = 8,
        heads: int = 16,
    ) -> None:
        """Build the decoder with the paper's random values.

        Args:
            in_channels: Channels C of the encoder's tokens.
            outputs: Names of the predictions, and their channels.
            width: Channels of the blocks, a multiple of `heads` and of 4.
            depth: Number of blocks.
            heads: Number of attention heads.
        """
        super().__init__()
        if min(width, depth, heads) < 1 or width % heads or width % 4:
            raise ValueError(
                f'decoder=dict(width={width}, depth={depth}, heads={heads}): give numbers >= 1 and '
                'a width that heads and 4 divide, such as dict(width=512, depth=8, heads=16)'
            )
        self.embed = nn.Linear(in_channels, width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.blocks = nn.ModuleList(Block(width, heads, qkv_bias=True) for _ in range(depth))
        self.norm = LayerNorm(width)  # timm's, of eps 1e-6 as in the blocks
        self.heads = nn.ModuleDict({name: nn.Linear(width, n) for name, n in outputs.items()})
        nn.init.normal_(self.mask_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor, visible: Tensor, grid: GridSize) -> dict[str, Tensor]:
        """Return maps (B, channels, h, w) of tokens (B, P + K, C) of the patches visible (B, K)."""
        tokens = self.embed(tokens).to(self.mask_token.dtype)  # under autocast, as in timm's ViTs
        prefix, patches = tokens.tensor_split([tokens.shape[1] - visible.shape[1]], dim=1)
        hidden = self.mask_token.expand(len(tokens), grid[0] * grid[1], -1)
        patches = hidden.scatter(1, visible[..., None].expand_as(patches), patches)
        positions = sincos_positions(grid, tokens.shape[-1], device=tokens.device)
        tokens = torch.cat((prefix, patches + positions.to(tokens.dtype)), dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens[:, prefix.shape[1] :])
        return {name: tokens_to_map(head(tokens), grid) for name, head in self.heads.items()}
