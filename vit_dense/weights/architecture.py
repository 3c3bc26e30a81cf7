"""Guess the timm architecture of a file of ViT weights from its names and shapes."""

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .identify import SIZES, Identity
from .names import bare_vit_names

__all__ = ['guess_architecture']

_TABLE = 'relative_position_bias_table'
_EVA02 = 'eva02_{size}_patch{patch}_224'


def guess_architecture(tensors: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]]:
    """Name an architecture whose tensors have the file's names and shapes.

    The number of heads shows in no shape: it is that of timm's architecture of this width.

    Args:
        tensors: A state dict as its authors wrote it.

    Returns:
        A timm name, and arguments of the timm model that make its position grid the file's.

    Raises:
        ValueError: If the file shows no ViT that can be named so.
    """
    raw = bare_vit_names(tensors).tensors
    identity = Identity.of(raw)
    size = SIZES.get(identity.width or 0)
    patch = identity.patch[0] if identity.patch else None
    pattern = _pattern(raw, identity.family)
    if pattern is None or size is None or patch is None:
        raise ValueError(
            f'the architecture cannot be told from the names and shapes, which show {identity}; '
            'give the timm model_name of the weights (--model-name)'
        )
    name = pattern.format(size=size, patch=patch)
    kwargs = {'depth': identity.depth, 'patch_size': patch, **_parts(raw, pattern)}
    grid = _grid(raw)
    return name, kwargs | ({'img_size': grid * patch} if grid else {})


def _parts(raw: Mapping[str, Tensor], pattern: str) -> dict[str, Any]:
    """Arguments for the parts that the file has and the architecture may not have, or inversely.

    timm's models have a final norm or one after pooling, by how they pool.
    """
    parts: dict[str, Any] = {}
    final_norm = 'norm.weight' in raw
    if not pattern.startswith(('beit', 'eva02')):
        if 'cls_token' not in raw:
            parts |= {'class_token': False, 'global_pool': 'avg'}
            parts |= {'fc_norm': False} if final_norm else {}
        return parts
    if final_norm:
        parts['global_pool'] = 'token'
    if 'pos_embed' in raw and any(name.endswith(_TABLE) for name in raw):
        parts['use_abs_pos_emb'] = True
    return parts


def _grid(raw: Mapping[str, Tensor]) -> int:
    """Edge of the square grid of positions, or of relative positions; 0 if there is none."""
    table = next((t for name, t in raw.items() if name.endswith(_TABLE)), None)
    if table is not None:
        return (math.isqrt(len(table) - 3) + 1) // 2
    positions = raw.get('pos_embed')
    if positions is None or positions.ndim != 3:
        return 0
    cells = [int(positions.shape[1]) - slots for slots in (1, 0, 2)]
    return next((math.isqrt(n) for n in cells if n > 0 and math.isqrt(n) ** 2 == n), 0)


def _pattern(raw: Mapping[str, Tensor], family: str) -> str | None:
    """Return the pattern of a timm name; None for families that are not told apart here."""
    if family == 'an EVA-02':
        return _EVA02
    if family == 'a BEiT or EVA':
        if any(name.endswith(_TABLE) for name in raw):
            return 'beit_{size}_patch{patch}_224'
        return _EVA02 if _is_gated(raw) else None
    return _plain(raw) if family == 'a plain ViT' else None


def _is_gated(raw: Mapping[str, Tensor]) -> bool:
    """Whether value and gate of the blocks' MLP come from one layer, as in EVA-02's small sizes."""
    if 'blocks.0.mlp.w12.weight' in raw:
        return True
    first, second = (raw.get(f'blocks.0.mlp.fc{i}.weight') for i in (1, 2))
    return first is not None and second is not None and len(first) == 2 * second.shape[1]


def _plain(raw: Mapping[str, Tensor]) -> str | None:
    # CLIP's (which of two activations it has does not show) and DINOv3's (no position table).
    if 'norm_pre.weight' in raw or 'pos_embed' not in raw:
        return None
    if 'dist_token' in raw:
        return 'deit_{size}_distilled_patch{patch}_224'
    scaled = any(re.search(r'\.(?:ls1\.gamma|gamma_?1)$', name) for name in raw)
    if not scaled:
        return 'vit_{size}_patch{patch}_224'
    if 'register_tokens' in raw or 'reg_token' in raw:
        return 'vit_{size}_patch14_reg4_dinov2'
    cells = int(raw['pos_embed'].shape[1])
    without_cls = math.isqrt(cells) ** 2 == cells
    return 'deit3_{size}_patch16_224' if without_cls else 'vit_{size}_patch14_dinov2'
