"""A ViT's parameters: which ones dense prediction uses, and to which layer they belong."""

from __future__ import annotations

from typing import Any

from timm.models import group_parameters
from torch import nn


def has_final_norm(model: Any) -> bool:
    """Whether timm built a norm layer after the last block; some pool before they normalise."""
    return not isinstance(getattr(model, 'norm', None), nn.Identity | None)


def drop_unused(model: Any, *, final_norm: bool) -> None:
    """Removes what dense prediction never runs, so that no parameter goes without gradient."""
    for name in ('attn_pool', 'head_dist'):
        if getattr(model, name, None) is not None:
            setattr(model, name, None)
    model.fc_norm = nn.Identity()
    if not final_norm:
        model.norm = nn.Identity()
    # DINOv2 files carry it; timm builds it for some models only
    if getattr(model, 'mask_token', None) is not None:
        model.mask_token = None


# Parameters that stand before the blocks, also where timm's matchers leave them out.
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
    """Parameter name -> 0 for embeddings, i + 1 for block i, depth + 1 for the final norm.

    Blocks are found by timm's `group_matcher`. A parameter that is none of these is left out, for
    the caller to refuse.
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
