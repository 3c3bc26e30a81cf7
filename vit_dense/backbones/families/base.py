"""Interface of a family of isotropic ViTs, with the implementation for plain ViTs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import torch
from timm.layers import apply_keep_indices_nlc
from torch import Tensor, nn

from ..windows import Tile


@dataclass
class TokenContext:
    """Data of one embedded batch besides its tokens.

    Attributes:
        grid: (h, w), the patch tokens' grid.
        rope: Rotary embedding (h*w, D), or (depth, heads, h*w, D) where it differs by block. After
            `keep_patches` (B, K, D), or (depth, B, heads, K, D).
        cache: Values that blocks share, computed once per forward.
        attn_mask: (B, 1, N, N) of the next blocks, True where a token attends to another one.
    """

    grid: tuple[int, int]
    rope: Tensor | None = None
    cache: dict[Any, Any] = field(default_factory=dict)
    attn_mask: Tensor | None = None


class Family:
    """VisionTransformer and its subclasses, whose blocks take tokens alone.

    Attributes:
        build_kwargs: Arguments that make timm accept any image size.
        no_windows: Reason why blocks cannot run in windows; empty if they can.
        no_dropping: Reason why blocks cannot run on some of the patches; empty if they can.
        no_final_norm: Reason why no norm layer follows the blocks; empty if one does.
        no_attention: Reason why blocks have no attention between tokens; empty if they have.
        no_rollout: Reason why attention is no share of the tokens' values; empty if it is.
        shares_activations: Whether blocks use what earlier blocks computed, beside the tokens.
    """

    build_kwargs: Mapping[str, Any] = {'dynamic_img_size': True, 'dynamic_img_pad': True}
    no_windows: str = ''
    no_dropping: str = ''
    no_final_norm: str = ''
    no_attention: str = ''
    no_rollout: str = ''
    shares_activations: bool = False

    def trunk(self, model: Any) -> Any:
        """Return the part of a new timm model that has the blocks."""
        return model

    def prepare(self, model: nn.Module) -> None:
        """Adapt the trunk of a new timm model to images of any size."""

    def patch_size(self, model: Any) -> tuple[int, int]:
        """Return (height, width) of a patch, in pixels."""
        height, width = model.patch_embed.patch_size
        return int(height), int(width)

    def embed(self, model: Any, image: Tensor) -> tuple[Tensor, TokenContext]:
        """Embed (B, 3, H, W) as timm's forward does: tokens (B, P + h*w, C) and their context."""
        grid = model.patch_embed.dynamic_feat_size(tuple(image.shape[-2:]))
        tokens = model._pos_embed(model.patch_embed(image))
        return model.norm_pre(model.patch_drop(tokens)), TokenContext(grid)

    def block_kwargs(
        self, model: Any, context: TokenContext, index: int, tile: Tile | None
    ) -> dict[str, Any]:
        """Return keyword arguments of block `index`, on a tile's windows or (None) the whole grid.

        With gradient checkpointing they are kept until the backward pass.
        """
        return {}

    def recomputed_kwargs(
        self, model: Any, context: TokenContext, index: int, tile: Tile | None
    ) -> dict[str, Any]:
        """Return further keyword arguments, which gradient checkpointing computes again.

        For large tensors that only one block uses. It must not write anything to `context.cache`
        that has a gradient.
        """
        return {}

    def keep_rope(self, rope: Tensor, keep: Tensor) -> Tensor:
        """Return `TokenContext.rope` of the patches with the indices `keep` (B, K)."""
        kept = apply_keep_indices_nlc(keep, rope, keep)  # (B, ..., K, D)
        return kept if rope.dim() == 2 else kept.transpose(0, 1)

    def takes_queries(self, block: nn.Module) -> bool:
        """Tell whether a block can run after `add_queries`, with an attention mask."""
        return 'attn_mask' in signature(block.forward).parameters

    def add_queries(
        self, model: Any, tokens: Tensor, context: TokenContext, queries: Tensor
    ) -> Tensor:
        """Insert queries (Q, C), the same for all images, between prefix and patch tokens.

        Returns:
            (B, P + Q + h*w, C), for blocks that `takes_queries` accepts.
        """
        prefix, patches = tokens.tensor_split([model.num_prefix_tokens], dim=1)
        return torch.cat((prefix, queries.expand(tokens.shape[0], -1, -1), patches), dim=1)

    def prefix_names(self, model: Any) -> list[str]:
        """Return what the prefix tokens are, in their order."""
        count = model.num_prefix_tokens
        names = ['class token'] if getattr(model, 'cls_token', None) is not None else []
        names += ['distillation token'] if getattr(model, 'dist_token', None) is not None else []
        return (names + [f'register {index + 1}' for index in range(count)])[:count]

    def attention_modules(self, block: nn.Module) -> list[Any]:
        """Return the modules of a block that pass attention of tokens through their `attn_drop`."""
        return [module for module in block.modules() if hasattr(module, 'attn_drop')]

    def token_attention(
        self, block: Any, attention: Tensor, tokens: int, grid: tuple[int, int]
    ) -> Tensor:
        """Return attention (B, heads, tokens, tokens) of what `attn_drop` of a block received.

        Args:
            block: The block, called on (B, tokens, C).
            attention: Input of `attn_drop` in that call.
            tokens: Number of tokens, with the prefix tokens.
            grid: (h, w) of the patch tokens in the whole image.
        """
        return attention


def accept_any_size(model: Any) -> None:
    """Let a patch embedding accept images of any size, padded to whole patches."""
    model.patch_embed.strict_img_size = False
    model.patch_embed.dynamic_img_pad = True


def share_drop_paths(model: Any) -> None:
    """Declare that the two branches of each block share one module of stochastic depth."""
    for block in model.blocks:
        block.drop_path.uses = 2
