"""Tokens after chosen blocks of a ViT that nothing else interacts with ("taps").

They depend on the image alone, so that a frozen ViT needs no graph. The adapter of DINOv3 (Simeoni
et al. 2025) and linear probes use nothing else of a ViT.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from ..layers import GridSize
from .cached_vit import CachedTimmViT
from .timm_vit import TimmViT


def tap_blocks(vit: TimmViT, image: Tensor, blocks: Sequence[int]) -> tuple[list[Tensor], GridSize]:
    """Run a ViT and return the tokens after some of its blocks.

    While training, a ViT without trainable parameters runs under `no_grad`, and on CUDA devices
    that support it under autocast to bfloat16. A `CachedTimmViT` runs for new images alone.

    Args:
        vit: The ViT. With `final_norm=True` each tap is normalised by the ViT's last norm.
        image: (B, in_chans, H, W), normalised.
        blocks: Numbers of blocks, rising.

    Returns:
        Tokens (B, P + h*w, C) after each of `blocks`, in the dtype of the image if the ViT is
        frozen, and (h, w).
    """
    is_frozen = vit.training and not any(p.requires_grad for p in vit.parameters())
    halves = is_frozen and image.is_cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    with (
        torch.set_grad_enabled(torch.is_grad_enabled() and not is_frozen),
        torch.autocast('cuda', torch.bfloat16) if halves else nullcontext(),
    ):
        if isinstance(vit, CachedTimmViT) and vit.is_caching:
            taps, grid = vit.recall(image, blocks, lambda new: _run(vit, new, blocks)[0])
        else:
            taps, grid = _run(vit, image, blocks)
    return [tokens.to(image.dtype) for tokens in taps] if is_frozen else taps, grid


def _run(vit: TimmViT, image: Tensor, blocks: Sequence[int]) -> tuple[list[Tensor], GridSize]:
    tokens, context = vit.embed(image)
    taps = []
    start = 0
    for block in blocks:
        tokens = vit.run_blocks(tokens, context, start, block + 1)
        taps.append(vit.model.norm(tokens))
        start = block + 1
    return taps, context.grid
