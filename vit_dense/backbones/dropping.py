"""Run the blocks of a ViT on some patches of each image, as masked autoencoders do."""

from __future__ import annotations

import torch
from timm.layers import apply_keep_indices_nlc
from torch import Tensor

from .families import TokenContext
from .timm_vit import TimmViT


def check_dropping(vit: TimmViT) -> None:
    """Raise `ValueError` if the blocks of a ViT need all patches of an image."""
    if any(vit.windows):
        raise ValueError(
            f'window_size={vit.window_size} of {vit.model_name!r}: windows need all patches. '
            'Leave window_size out for pretraining; the weights can be used with it afterwards'
        )
    if vit.family.no_dropping:
        raise ValueError(
            f'model_name={vit.model_name!r} cannot leave patches out: {vit.family.no_dropping}. '
            'Choose a ViT with absolute or rotary positions, such as vit_small_patch16_224 or '
            'vit_small_patch16_dinov3'
        )


def keep_patches(vit: TimmViT, tokens: Tensor, context: TokenContext, keep: Tensor) -> Tensor:
    """Leave out patches between `embed` and the first block; prefix tokens stay.

    Args:
        vit: A ViT that `check_dropping` accepts.
        tokens: (B, P + h*w, C) of `vit.embed`, which have absolute positions.
        context: Of the tokens; its rotary embedding becomes that of each image's patches.
        keep: (B, K), indices of patches, row by row, in any order.

    Returns:
        Tokens (B, P + K, C) for `vit.run_blocks`; they are no map.
    """
    prefix, patches = tokens.tensor_split([vit.num_prefix_tokens], dim=1)
    if context.rope is not None:
        context.rope = vit.family.keep_rope(context.rope, keep)
    patches = apply_keep_indices_nlc(patches, patches, keep, pos_embed_has_batch=True)
    return torch.cat((prefix, patches), dim=1)
