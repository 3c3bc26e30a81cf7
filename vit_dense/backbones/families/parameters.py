"""Parameters of a ViT: those that dense prediction uses, and their layers."""

from __future__ import annotations

from typing import Any

import torch
from timm.models import group_parameters
from torch import nn

from ...layers import sincos_positions


def has_final_norm(model: Any) -> bool:
    """Tell whether timm built a norm layer after the last block; some models pool before it."""
    return not isinstance(getattr(model, 'norm', None), nn.Identity | None)


def drop_unused(model: Any, *, final_norm: bool) -> None:
    """Remove layers that dense prediction never runs, which would get no gradient."""
    for name in ('attn_pool', 'head_dist'):
        if getattr(model, name, None) is not None:
            setattr(model, name, None)
    model.fc_norm = nn.Identity()
    if not final_norm:
        model.norm = nn.Identity()
    # in DINOv2's files; timm builds it for some models only
    if getattr(model, 'mask_token', None) is not None:
        model.mask_token = None


@torch.no_grad()
def start_positions(model: Any) -> None:
    """Set learned positions (1, P + h*w, C) to sines and cosines, those of prefix tokens to 0.

    Source: released MAE (He et al. 2022). Tables of other grids (NaFlexViT, Gemma 4, Qwen3) stay.
    """
    table = getattr(model, 'pos_embed', None)
    if isinstance(table, nn.Parameter) and not hasattr(model, 'pos_embed_grid_size'):
        positions = sincos_positions(model.patch_embed.grid_size, table.shape[-1])
        table.zero_()[:, -len(positions) :] = positions


# Parameters before the blocks, including those that timm's matchers leave out.
_EMBEDDINGS = (
    'patch_embed.',
    'pos_embed',
    'cls_token',
    'dist_token',
    'reg_token',
    'norm_pre.',
    'rope.',
    'rel_pos_bias.',
    'shared_rel_pos.',
    'embeds.',
    # TNT's, before its first block
    'pixel_embed.',
    'pixel_pos',
    'patch_pos',
    'norm1_proj.',
    'proj.',
    'norm2_proj.',
)


def layer_ids(model: Any) -> dict[str, int]:
    """Map parameter names to 0 (embeddings), i + 1 (block i) or depth + 1 (final norm).

    Blocks are found by timm's `group_matcher`. Other parameters are left out, for the
    caller to reject.
    """
    found = group_parameters(model, model.group_matcher(coarse=False), reverse=True)
    ids = {}
    for name, _ in model.named_parameters():
        if name.startswith('blocks.'):
            ids[name] = int(found[name])
        elif name.startswith('norm.'):
            ids[name] = len(model.blocks) + 1
        elif name.startswith(_EMBEDDINGS):
            ids[name] = 0
    return ids
