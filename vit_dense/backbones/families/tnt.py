"""TNT (Han et al. 2021): every block has an inner transformer on the pixels of each patch.

The inner transformers do not use the patch tokens: their output is computed before each block and
passed to it, so that blocks run on tokens as in all other families. (Gradient checkpointing
recomputes the outer part only.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed
from timm.models import tnt
from torch import Tensor

from ..windows import Tile
from .base import Family, TokenContext, share_drop_paths

_PIXELS = 'pixels behind block'


class _SplitBlock(tnt.Block):
    """timm's block in two parts, with timm's parameters."""

    def inner(self, pixels: Tensor) -> Tensor:
        """Run the inner transformer on (B*h*w, pixels of a patch, c)."""
        pixels = pixels + self.drop_path(self.attn_in(self.norm_in(pixels)))
        return pixels + self.drop_path(self.mlp_in(self.norm_mlp_in(pixels)))

    def forward(self, x: Tensor, pixels: Tensor) -> Tensor:
        """Run the outer block on (B, 1 + N, C) and all pixels of each patch (B, N, pixels * c)."""
        if self.norm2_proj is None:  # the first weights
            pixels = pixels.unflatten(-1, (-1, self.attn_in.hidden_dim))
            pixels = self.proj(self.norm1_proj(pixels).flatten(2))
        else:
            pixels = self.norm2_proj(self.proj(self.norm1_proj(pixels)))
        x = torch.cat((x[:, :1], x[:, 1:] + pixels), dim=1)
        x = x + self.drop_path(self.attn_out(self.norm_out(x)))
        return x + self.drop_path(self.mlp(self.norm_mlp(x)))


class TntFamily(Family):
    """TNT; the context holds the pixels."""

    build_kwargs: Mapping[str, Any] = {}
    no_dropping = 'its blocks also run on the pixels of all patches'
    shares_activations = True

    def prepare(self, model: Any) -> None:
        share_drop_paths(model)
        for block in model.blocks:
            block.__class__ = _SplitBlock

    def patch_size(self, model: Any) -> tuple[int, int]:
        height, width = model.pixel_embed.patch_size
        return int(height), int(width)

    def embed(self, model: Any, image: Tensor) -> tuple[Tensor, TokenContext]:
        patch = self.patch_size(model)
        image = F.pad(image, (0, -image.shape[-1] % patch[1], 0, -image.shape[-2] % patch[0]))
        batch, _, height, width = image.shape
        grid = (height // patch[0], width // patch[1])
        # its forward reads what it was built for
        model.pixel_embed.img_size, model.pixel_embed.num_patches = (
            (height, width),
            grid[0] * grid[1],
        )
        pixels = model.pixel_embed(image, model.pixel_pos)
        tokens = model.proj(model.norm1_proj(pixels.reshape(batch, grid[0] * grid[1], -1)))
        tokens = torch.cat((model.cls_token.expand(batch, -1, -1), model.norm2_proj(tokens)), dim=1)
        tokens = tokens + resample_abs_pos_embed(
            model.patch_pos, new_size=grid, old_size=model.pixel_embed.grid_size
        )
        return model.pos_drop(tokens), TokenContext(grid, cache={_PIXELS: (-1, pixels)})

    def block_kwargs(
        self, model: Any, context: TokenContext, index: int, tile: Tile | None
    ) -> dict[str, Any]:
        done, pixels = context.cache[_PIXELS]
        for block in model.blocks[done + 1 : index + 1]:
            pixels = block.inner(pixels)
        context.cache[_PIXELS] = (index, pixels)
        of_patches = pixels.flatten(1).unflatten(0, (-1, *context.grid))  # (B, h, w, pixels * c)
        return {'pixels': of_patches.flatten(1, 2) if tile is None else tile.split(of_patches)}

    def attention_modules(self, block: Any) -> list[Any]:
        """Return the outer attention; the inner one is between pixels of a patch."""
        return [block.attn_out]
