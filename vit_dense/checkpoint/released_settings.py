"""The backbone's config that a released checkpoint wants, as far as shapes and names tell it."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from .diagnose import SIZES, depth_of

if TYPE_CHECKING:
    from .released import Released

__all__ = ['backbone_settings', 'grid_of', 'size_of']

_TABLE = 'blocks.0.attn.relative_position_bias_table'
_STAGES = 4  # in all published models but the light one
_POINTS = 4  # sampling points per head and level; no shape tells them from the heads
_LEVELS = {'ViTAdapter': 1, 'ViTCoMer': 3}  # of the attention that `_attention` names
_PATCH, _TRAINED_GRID = 16, 14  # of the architectures that are named
_FFN_RATIO = 0.25  # in all published configs, and our default
_HEAD_DIM = 64  # of all published ViTs; no shape shows it
_WINDOW = 14  # of all published detectors


def size_of(released: Released) -> str | None:
    """'tiny' to 'huge' for the published widths."""
    return SIZES.get(released.size('level_embed', 1))


def grid_of(released: Released) -> int:
    """Edge of the square grid of positions, or of relative positions."""
    if released.is_beit:
        return (math.isqrt(released.size(_TABLE) - 3) + 1) // 2
    return math.isqrt(released.size('pos_embed', 1) - 1)


def backbone_settings(released: Released) -> dict[str, Any]:
    """`model.backbone` for a released checkpoint; a backbone alone does not tell its task."""
    width = released.size('level_embed', 1)
    first = f'interactions.0.{"extractor" if released.method == "ViTAdapter" else "cti_tov"}'
    rows = released.size(f'{first}.attn.attention_weights.weight')
    settings: dict[str, Any] = {
        'type': released.method,
        'deform_num_heads': rows // (_POINTS * _LEVELS[released.method]),
        'deform_ratio': released.size(f'{first}.attn.value_proj.weight') / width,
        'conv_inplane': released.size('spm.stem.0.weight'),
    }
    if released.method == 'ViTCoMer':
        settings['mrfp_ratio'] = released.size('interactions.0.mrfp.fc1.weight') / width
    elif not any('.extra_extractors.' in name for name in released.backbone):
        settings['type'] = 'LightViTAdapter'
    hidden = f'{first}.ffn.fc1.weight'
    if hidden not in released.backbone:
        settings['cffn_ratio'] = 0.0
    elif released.size(hidden) != int(width * _FFN_RATIO):
        settings['cffn_ratio'] = released.size(hidden) / width
    vit = _vit_settings(released)
    stages = 1 + max(
        int(i) for i in re.findall(r'interactions\.(\d+)\.', ' '.join(released.backbone))
    )
    if stages != _STAGES:
        depth = depth_of(released.backbone) or stages
        cuts = [depth * i // stages for i in range(stages + 1)]
        settings['interaction_indexes'] = [(a, b - 1) for a, b in pairwise(cuts)]
    if released.task == 'segmentation':
        settings['vit_feature_source'] = 'stages' if stages == _STAGES else 'none'
    if released.task == 'detection':
        settings['vit_feature_source'] = 'last'
        vit['window_size'] = _WINDOW
    return settings | {'vit': vit}


def _vit_settings(released: Released) -> dict[str, Any]:
    """`model.backbone.vit`. BEiT is timm's; the plain ViT, which is not, has a type of its own."""
    size, grid = size_of(released), grid_of(released)
    kwargs: dict[str, Any] = {}
    if released.is_beit:
        vit = {'type': 'TimmViT', 'model_name': f'beit_{size or "base"}_patch16_224'}
    else:
        vit = {'type': 'ReleasedTimmViT', 'model_name': f'deit_{size or "base"}_patch16_224'}
        if size not in ('tiny', 'small', 'base', None):
            vit['model_name'] = f'vit_{size}_patch16_224'
        kwargs |= {'init_values': 1.0} if released.layer_scale else {}
    if grid != _TRAINED_GRID:
        kwargs['img_size'] = _PATCH * grid
    if size is None:
        width = released.size('level_embed', 1)
        heads = released.size(_TABLE, 1) if released.is_beit else max(1, width // _HEAD_DIM)
        kwargs |= {'embed_dim': width, 'depth': depth_of(released.backbone), 'num_heads': heads}
    return {**vit, 'model_kwargs': kwargs} if kwargs else vit
