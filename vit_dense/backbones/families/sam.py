"""The image encoder of Segment Anything (Kirillov et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed_nhwc
from timm.models import vision_transformer_sam
from torch import Tensor, nn

from ..windows import Tile, scatter_attention
from .base import Family, TokenContext, accept_any_size


class _FlatSamBlock(vision_transformer_sam.Block):
    """SAM's block on tokens instead of maps."""

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:  # type: ignore[override]
        """Run the block on (B, h*w, C)."""
        return super().forward(x.unflatten(1, grid)).flatten(1, 2)


class SamFamily(Family):
    """The encoder of Segment Anything, without its neck."""

    build_kwargs: Mapping[str, Any] = {}
    no_windows = 'its blocks have windows of their own'
    no_dropping = 'its blocks have windows and relative positions on the whole grid'
    no_final_norm = 'its norms stand between the convolutions of its neck, which is left out'

    def prepare(self, model: Any) -> None:
        """Prepare a new timm model.

        Raises:
            ValueError: If the model has rotary positions, which timm binds to one image size.
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

    def token_attention(
        self, block: Any, attention: Tensor, tokens: int, grid: tuple[int, int]
    ) -> Tensor:
        """Return attention (1, heads, h*w, h*w) of one image.

        timm fills windows at the lower right with zeros and attends to these as well: what rows
        lack to a sum of 1 is there.
        """
        attention = attention.unflatten(0, (-1, block.attn.num_heads))  # (windows, heads, n, n)
        window = block.window_size
        if not window:
            return attention
        places = torch.arange(tokens, device=attention.device).view(grid)
        places = F.pad(places, (0, -grid[1] % window, 0, -grid[0] % window), value=-1)
        places = places.unflatten(1, (-1, window)).unflatten(0, (-1, window)).transpose(1, 2)
        return scatter_attention(attention, places.reshape(-1, window * window), tokens)[None]
