"""The config that a released adapter wants, as far as the shapes and names of its tensors say."""

import math
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from torch import Tensor

from ..weights.identify import SIZES, depth_of

__all__ = [
    'BEIT_TABLE',
    'HEAD_DIM',
    'adapter_settings',
    'backbone_settings',
    'describe',
    'has_layer_scale',
    'width_of',
]

Tensors = Mapping[str, Tensor]

BEIT_TABLE = 'blocks.0.attn.relative_position_bias_table'
_STAGES = 4  # in all published models but the light one
_POINTS = 4  # sampling points per head and level; no shape tells them from the heads
_LEVELS = {'ViTAdapter': 1, 'ViTCoMer': 3}  # of the first attention that has an FFN
_PATCH, _TRAINED_GRID = 16, 14  # of the architectures that are named
_FFN_RATIO = 0.25  # in all published configs, and our default
HEAD_DIM = 64  # of all published ViTs; no shape shows it
_WINDOW = 14  # of all published detectors on plain ViTs


def width_of(backbone: Tensors) -> int:
    """Return the channels of the ViT."""
    return int(backbone['level_embed'].shape[1])


def has_layer_scale(backbone: Tensors) -> bool:
    """Return whether the ViT has one."""
    return any(f'blocks.0.{name}' in backbone for name in ('gamma1', 'gamma_1'))


def describe(backbone: Tensors) -> str:
    """Return size and parts of the ViT, for the user."""
    width, grid = width_of(backbone), _grid(backbone)
    positions = f'positions {grid}x{grid}' if grid else f'windows {sorted(set(_windows(backbone)))}'
    return (
        f'{SIZES.get(width, "unknown size")}: width {width}, depth {depth_of(backbone)}, '
        f'{"relative " * (BEIT_TABLE in backbone)}{positions}, '
        f'{"with" if has_layer_scale(backbone) else "without"} LayerScale'
    )


def adapter_settings(method: str, backbone: Tensors) -> dict[str, Any]:
    """Return what the shapes tell of the config of a released adapter, without its ViT.

    Args:
        method: 'ViTAdapter' or 'ViTCoMer'.
        backbone: Its tensors, as the release names them.
    """
    width = width_of(backbone)
    first = f'interactions.0.{"extractor" if method == "ViTAdapter" else "cti_tov"}'
    rows = len(backbone[f'{first}.attn.attention_weights.weight'])
    settings: dict[str, Any] = {
        'type': method,
        'deform_num_heads': rows // (_POINTS * _LEVELS[method]),
        'deform_ratio': len(backbone[f'{first}.attn.value_proj.weight']) / width,
        'conv_inplane': len(backbone['spm.stem.0.weight']),
    }
    if method == 'ViTCoMer':
        settings['mrfp_ratio'] = len(backbone['interactions.0.mrfp.fc1.weight']) / width
    elif not any('.extra_extractors.' in name for name in backbone):
        settings['type'] = 'LightViTAdapter'
    hidden = backbone.get(f'{first}.ffn.fc1.weight')
    if hidden is None:
        settings['cffn_ratio'] = 0.0
    elif len(hidden) != int(width * _FFN_RATIO):
        settings['cffn_ratio'] = len(hidden) / width
    return settings


def backbone_settings(method: str, backbone: Tensors, task: str | None) -> dict[str, Any]:
    """Return the config of `model.backbone` for a released ViT-Adapter or ViT-CoMer.

    Args:
        method: 'ViTAdapter' or 'ViTCoMer'.
        backbone: Its tensors, as the release names them.
        task: 'segmentation' or 'detection'; None leaves out what depends on it.
    """
    settings = adapter_settings(method, backbone)
    vit = _vit_settings(backbone)
    stages = len(set(re.findall(r'\binteractions\.(\d+)\.', ' '.join(backbone))))
    if stages != _STAGES:
        depth = depth_of(backbone) or stages
        cuts = [depth * i // stages for i in range(stages + 1)]
        settings['interaction_indexes'] = [(a, b - 1) for a, b in pairwise(cuts)]
        settings['vit_feature_source'] = 'none'  # as the light model, the only one of its kind
    elif task == 'segmentation':
        settings['vit_feature_source'] = 'stages'
    if task == 'detection':
        settings['vit_feature_source'] = 'last'
        vit.setdefault('window_size', _WINDOW)
    return settings | {'vit': vit}


def _vit_settings(backbone: Tensors) -> dict[str, Any]:
    """Return `model.backbone.vit`: timm's BEiT, or `ReleasedTimmViT` for a plain ViT."""
    width, grid, beit = width_of(backbone), _grid(backbone), BEIT_TABLE in backbone
    size = SIZES.get(width, 'base')
    kwargs: dict[str, Any] = {}
    vit: dict[str, Any]
    if beit and 'cls_token' in backbone:
        vit = {'type': 'TimmViT', 'model_name': f'beit_{size}_patch16_224'}
    elif beit:
        vit = {'type': 'ReleasedTimmViT', 'model_name': f'beit_{size}_patch16_224'}
        vit['window_size'] = _windows(backbone)
    else:
        family = 'deit' if size in ('tiny', 'small', 'base') else 'vit'
        vit = {'type': 'ReleasedTimmViT', 'model_name': f'{family}_{size}_patch16_224'}
        kwargs |= {'init_values': 1.0} if has_layer_scale(backbone) else {}
    if grid not in (None, _TRAINED_GRID):
        kwargs['img_size'] = _PATCH * grid
    if width not in SIZES:
        heads = backbone[BEIT_TABLE].shape[1] if beit else max(1, width // HEAD_DIM)
        kwargs |= {'embed_dim': width, 'depth': depth_of(backbone), 'num_heads': heads}
    return {**vit, 'model_kwargs': kwargs} if kwargs else vit


def _grid(backbone: Tensors) -> int | None:
    """Edge of the square grid of positions, or of relative positions; None for windows of BEiT."""
    if BEIT_TABLE not in backbone:
        return math.isqrt(int(backbone['pos_embed'].shape[1]) - 1)
    if 'cls_token' not in backbone:
        return None
    return (math.isqrt(len(backbone[BEIT_TABLE]) - 3) + 1) // 2


def _windows(backbone: Tensors) -> list[int]:
    """Edge of each block's windows, from its table of relative positions."""
    tables = [BEIT_TABLE.replace('.0.', f'.{i}.') for i in range(depth_of(backbone) or 0)]
    return [(math.isqrt(len(backbone[name])) + 1) // 2 for name in tables if name in backbone]
