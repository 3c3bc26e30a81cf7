"""ViTs of the transformers library under their authors' names.

ViT (also DeiT's and MAE's encoder) becomes timm's layout; DINOv2 and DINOv3 become Meta's, which
timm's own filters read. Both generations of names are known: up to version 4
(`encoder.layer.0.attention.attention.query`, as most files on the Hub have it) and from version 5
(`layers.0.attention.q_proj`). Source: the state dicts of `ViTModel`, `Dinov2Model`,
`Dinov2WithRegistersModel` and `DINOv3ViTModel`.
"""

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from .renaming import rename

__all__ = ['from_hugging_face', 'is_hugging_face']

_ROOT = 'embeddings.cls_token'
_POSITIONS = 'embeddings.position_embeddings'  # DINOv3 has none, its positions are rotary
_BLOCK = re.compile(r'^(?:encoder\.|model\.)?layers?\.(\d+)\.(.+)$')
_PROJECTION = re.compile(
    r'^attention\.(?:attention\.)?(query|key|value|[qkv]_proj)\.(weight|bias)$'
)
_EMBEDDINGS = (
    (r'^embeddings\.position_embeddings$', 'pos_embed'),
    (r'^embeddings\.distillation_token$', 'dist_token'),
    (r'^embeddings\.patch_embeddings\.(?:projection\.)?', 'patch_embed.proj.'),
    (r'^embeddings\.', ''),
    (r'^layernorm\.', 'norm.'),
)
_IN_BLOCK = (
    (r'^layernorm_before\.', 'norm1.'),
    (r'^layernorm_after\.', 'norm2.'),
    (r'^layer_scale([12])\.lambda1$', r'ls\1.gamma'),
    (r'^attention\.(?:output\.dense|o_proj)\.', 'attn.proj.'),
    (r'^intermediate\.dense\.', 'mlp.fc1.'),
    (r'^output\.dense\.', 'mlp.fc2.'),
    (r'^mlp\.weights_in\.', 'mlp.w12.'),
    (r'^mlp\.weights_out\.', 'mlp.w3.'),
)
_PLAIN_MLP = ((r'^mlp\.up_proj\.', 'mlp.fc1.'), (r'^mlp\.down_proj\.', 'mlp.fc2.'))
_GATED_MLP = (
    (r'^mlp\.gate_proj\.', 'mlp.w1.'),
    (r'^mlp\.up_proj\.', 'mlp.w2.'),
    (r'^mlp\.down_proj\.', 'mlp.w3.'),
)


def is_hugging_face(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether the names are those of a ViT of the transformers library."""
    return _ROOT in tensors


def from_hugging_face(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a ViT, DINOv2 or DINOv3; query, key and value become one layer.

    DINOv3's keys have no bias, which becomes a bias of zero. Names without a counterpart stay as
    they are, and so do parts of a layer whose others are absent or do not fit.
    """
    is_dinov3 = _POSITIONS not in tensors
    registers = 'storage_tokens' if is_dinov3 else 'register_tokens'
    gated = any('.mlp.gate_proj.' in name for name in tensors)
    block_rules = (*_IN_BLOCK, *(_GATED_MLP if gated else _PLAIN_MLP))
    out: dict[str, Tensor] = {}
    projections: dict[str, dict[str, str]] = {}  # layer -> q, k, v -> name in the file
    for name, tensor in tensors.items():
        match = _BLOCK.match(name)
        if match is None:
            out[rename(name, _EMBEDDINGS).replace('register_tokens', registers)] = tensor
        elif projection := _PROJECTION.match(match[2]):
            layer = f'blocks.{match[1]}.attn.qkv.{projection[2]}'
            projections.setdefault(layer, {})[projection[1][0]] = name
        else:
            out[f'blocks.{match[1]}.{rename(match[2], block_rules)}'] = tensor
    for layer, names in projections.items():
        parts = {part: tensors[name] for part, name in names.items()}
        if layer.endswith('.bias') and parts.keys() == {'q', 'v'}:
            parts['k'] = torch.zeros_like(parts['q'])
        if len(parts) == len('qkv') and _can_join(parts.values()):
            out[layer] = torch.cat([parts[part] for part in 'qkv'])
        else:
            out |= {name: tensors[name] for name in names.values()}
    return out if is_dinov3 or not gated else _fuse_gate(out)


def _can_join(parts: Iterable[Tensor]) -> bool:
    shapes = {tuple(part.shape) for part in parts}
    return len(shapes) == 1 and () not in shapes


def _fuse_gate(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Join gate and value of DINOv2's SwiGLU, which Meta has in one layer."""
    out = dict(tensors)
    for name, gate in tensors.items():
        other = name.replace('.mlp.w1.', '.mlp.w2.')
        if other != name and other in tensors and _can_join((gate, tensors[other])):
            out[name.replace('.w1.', '.w12.')] = torch.cat((out.pop(name), out.pop(other)))
    return out
