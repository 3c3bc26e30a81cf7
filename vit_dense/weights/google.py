"""Google's JAX ViTs (AugReg, big_vision) under timm's names."""

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

__all__ = ['from_google', 'is_google']

_KINDS = {'kernel': 'weight', 'scale': 'weight', 'bias': 'bias'}


def is_google(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether these are the names of Google's JAX ViTs (AugReg, big_vision)."""
    return any(name.endswith('embedding/kernel') for name in tensors)


def from_google(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert Google's JAX layout: HWIO kernels, separate query / key / value with a heads axis.

    Both generations are read: AugReg (`MlpBlock_3`, `MultiHeadDotProductAttention_1`) and
    big_vision (`MlpBlock_0`, `MultiHeadDotProductAttention_0`, blocks possibly stacked along a
    first axis). Heads and pre-logits keep names of their own and are ignored later on.

    Returns:
        The tensors under timm's names; arrays without a counterpart keep their own.
    """
    root = next(name for name in sorted(arrays) if name.endswith('embedding/kernel'))
    prefix = root[: -len('embedding/kernel')]
    arrays = {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}
    arrays = _unstack(arrays)
    out: dict[str, Tensor] = {}
    queries: dict[str, dict[str, Tensor]] = {}
    for name, value in arrays.items():
        if match := re.search(r'encoderblock_(\d+)/MultiHead\w+/(query|key|value)/(\w+)$', name):
            block, part, kind = match.groups()
            queries.setdefault(f'blocks.{block}.attn.qkv.{_KINDS[kind]}', {})[part] = value
            continue
        new_name, convert = _google_rule(name)
        out[new_name] = convert(value).contiguous()
    for new_name, parts in queries.items():
        # (D, heads, head_dim) kernels and (heads, head_dim) biases, joined along the output axis.
        ordered = [parts[part] for part in ('query', 'key', 'value') if part in parts]
        flat = [t.flatten(1).T if t.ndim == 3 else t.flatten() for t in ordered]
        out[new_name] = torch.cat(flat)
    return out


def _google_rule(name: str) -> tuple[str, Callable[[Tensor], Tensor]]:
    """Return the timm name of one array, and how to turn it."""
    exact = {
        'embedding/kernel': ('patch_embed.proj.weight', lambda t: t.permute(3, 2, 0, 1)),
        'embedding/bias': ('patch_embed.proj.bias', torch.clone),
        'cls': ('cls_token', lambda t: t.reshape(1, 1, -1)),
        'pos_embedding': ('pos_embed', lambda t: t.reshape(1, -1, t.shape[-1])),
        'Transformer/posembed_input/pos_embedding': ('pos_embed', torch.clone),
        'Transformer/encoder_norm/scale': ('norm.weight', torch.clone),
        'Transformer/encoder_norm/bias': ('norm.bias', torch.clone),
    }
    if name in exact:
        return exact[name]
    match = re.match(r'Transformer/encoderblock_(\d+)/(.+)/(\w+)$', name)
    if match is None or match[3] not in _KINDS:
        return name, torch.clone
    block, part, kind = f'blocks.{match[1]}', match[2], _KINDS[match[3]]
    if part.startswith('LayerNorm_'):
        return f'{block}.norm{1 if part == "LayerNorm_0" else 2}.{kind}', torch.clone
    if part.endswith('/out'):
        # (heads, head_dim, D) -> (D, heads * head_dim)
        return f'{block}.attn.proj.{kind}', lambda t: t.flatten(0, -2).T if t.ndim == 3 else t
    if dense := re.search(r'MlpBlock_\d+/Dense_([01])$', part):
        fc = f'{block}.mlp.fc{int(dense[1]) + 1}.{kind}'
        return fc, lambda t: t.T if t.ndim == 2 else t
    return name, torch.clone


def _unstack(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """Split blocks that were stored as one array with a leading depth axis."""
    marker = 'Transformer/encoderblock/'
    out: dict[str, Tensor] = {}
    for name, value in arrays.items():
        if name.startswith(marker):
            rest = name[len(marker) :]
            out |= {f'Transformer/encoderblock_{i}/{rest}': v for i, v in enumerate(value)}
        else:
            out[name] = value
    return out
