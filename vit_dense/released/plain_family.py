"""What the released ViT-Adapter and ViT-CoMer compute differently from timm's ViT.

Source: the released code of both (segmentation and detection share it). Their trained weights give
the published figures only under the same function, which differs in two places:

- positions are resized without low-pass, whereas timm's helper antialiases; the two differ even
  where a grid grows, because they use different bicubic kernels;
- windows at the edge are filled up with zeros *after* the projection to query, key and value, and
  nothing masks them: such a key has logit 0 and takes its share of the softmax.

The released networks have no cls token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Attention
from torch import Tensor

from ..backbones.families import Family, TokenContext, find_family
from ..backbones.families.relative import BeitFamily
from ..backbones.windows import Tile
from .beit_family import ReleasedBeitFamily


class ZeroPaddedAttention(Attention):
    """timm's attention with further keys and values of zero; the parameters are timm's."""

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """Attend to (B, N, C) tokens and to the zeros beside them.

        Args:
            x: (B, N, C).
            attn_mask: None, or (N, N + zeros): as many zero keys as it has columns beyond N.
            is_causal: as in timm, without zeros only.

        Returns:
            (B, N, C).
        """
        if attn_mask is None:
            return super().forward(x, is_causal=is_causal)
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)  # (B, heads, N, D)
        zeros = attn_mask.shape[-1] - x.shape[1]
        k, v = (F.pad(t, (0, 0, 0, zeros)) for t in (self.k_norm(k), v))
        dropout = self.attn_drop.p if self.training else 0.0
        x = F.scaled_dot_product_attention(self.q_norm(q), k, v, dropout_p=dropout)
        return self.proj_drop(self.proj(self.norm(x.transpose(1, 2).flatten(2))))


class ReleasedFamily(Family):
    """VisionTransformer as the released adapters run it."""

    build_kwargs: Mapping[str, Any] = {
        **Family.build_kwargs,
        'class_token': False,
        'global_pool': 'avg',
    }

    def prepare(self, model: Any) -> None:
        """Adapt a freshly built ViT.

        Raises:
            ValueError: the model has prefix tokens, no learned positions or other attention.
        """
        odd = [type(block.attn).__name__ for block in model.blocks if not _is_plain(block.attn)]
        if model.pos_embed is None or odd:
            what = f'attention of type {odd[0]}' if odd else 'no learned positions'
            raise ValueError(
                f'ReleasedTimmViT: the released adapters sit on plain ViTs with learned positions, '
                f'but this one has {what}; choose a model_name such as '
                f"'deit_base_patch16_224', or type='TimmViT'"
            )
        if model.num_prefix_tokens:
            raise ValueError(
                f'ReleasedTimmViT: the released adapters have no cls token, but this ViT has '
                f'{model.num_prefix_tokens} prefix tokens: choose a model_name without more of '
                f'them, and leave class_token out of model_kwargs'
            )
        for block in model.blocks:
            block.attn.__class__ = ZeroPaddedAttention

    def embed(self, model: Any, image: Tensor) -> tuple[Tensor, TokenContext]:
        grid = model.patch_embed.dynamic_feat_size(tuple(image.shape[-2:]))
        positions = model.pos_embed.unflatten(1, model.patch_embed.grid_size).permute(0, 3, 1, 2)
        positions = F.interpolate(positions, size=grid, mode='bicubic', align_corners=False)
        tokens = model.patch_embed(image) + positions.permute(0, 2, 3, 1)  # (B, h, w, C)
        tokens = model.pos_drop(tokens.flatten(1, 2))
        return model.norm_pre(model.patch_drop(tokens)), TokenContext(grid)

    def block_kwargs(
        self, model: Any, context: TokenContext, index: int, tile: Tile | None
    ) -> dict[str, Any]:
        if tile is None:
            return {}
        tokens, whole = math.prod(tile.shape), tile.window**2
        if tokens == whole:
            return {}
        if tile not in context.cache:
            # only its shape is read
            context.cache[tile] = torch.zeros(1, 1).expand(tokens, whole)
        return {'attn_mask': context.cache[tile]}


def released_family(
    model_name: str, window_size: int | Sequence[int | None] | None = None
) -> Family:
    """Return the family that computes what the releases do.

    BEiT without windows is the segmentation models', which is timm's; with windows the detectors'.

    Raises:
        ValueError: As `find_family`, or if the releases do not use models of this family.
    """
    family = find_family(model_name)
    if 'distilled' in model_name:
        raise ValueError(
            f'ReleasedTimmViT with model_name={model_name!r}: the released adapters sit on ViTs '
            f"without distillation tokens; choose one such as 'deit_base_patch16_224'"
        )
    if type(family) is Family:
        return ReleasedFamily()
    if type(family) is not BeitFamily:
        raise ValueError(
            f'ReleasedTimmViT with model_name={model_name!r}: the released adapters sit on plain '
            f"ViTs and on BEiT; choose one such as 'deit_base_patch16_224', or type='TimmViT'"
        )
    if window_size is None:
        return family
    if isinstance(window_size, int) or not all(window_size):
        raise ValueError(
            f'ReleasedTimmViT on BEiT with window_size={window_size}: the released detectors have '
            f'windows in every block; give a sequence with one edge for each, such as '
            f'[14, 14, 14, 14, 14, 56] * 4'
        )
    return ReleasedBeitFamily([edge for edge in window_size if edge])


def _is_plain(attn: Any) -> bool:
    return type(attn) is Attention and attn.gate is None
