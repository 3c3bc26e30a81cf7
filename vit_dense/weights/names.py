"""From the names in a weight file to the names its authors gave the bare ViT.

Three things stand between: wrappers around the ViT (`module.`, `backbone.vit.model.`),
OpenMMLab's own names for a ViT's parts, and Google's `.npz` layout. What is left after that is
what timm's `checkpoint_filter_fn` understands (see `convert`).
"""

import re
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ['from_google', 'from_openmmlab', 'is_google', 'strip_wrappers']

_WRAPPERS = ('module.', '_orig_mod.')  # DistributedDataParallel, torch.compile
# Names that stand at the root of a ViT, in some layout; what precedes one is a wrapper.
_ROOTS = (
    'patch_embed.proj.weight',
    'patch_embed.projection.weight',
    'blocks.0.norm1.weight',
    'pixel_embed.proj.weight',  # TNT
)
# SAM: timm recognises the file by this prefix.
_KEPT_PREFIXES = ('image_encoder.',)
# DINOv2's training keeps blocks in groups, each padded in front so that the second number is the
# block's own.
_GROUPED = re.compile(r'^blocks\.\d+\.(?=\d+\.)')

_OPENMMLAB = (
    (r'^patch_embed\.projection\.', 'patch_embed.proj.'),
    (r'^(?:pre_norm|ln_pre)\.', 'norm_pre.'),
    (r'^(?:ln1|norm1)\.', 'norm.'),
    (r'^(?:ln2|norm2)\.', 'fc_norm.'),  # the norm of averaged patches
    (r'^layers\.(\d+)\.(?:ln|norm)([12])\.', r'blocks.\1.norm\2.'),
    (r'^layers\.(\d+)\.attn\.attn\.in_proj_', r'blocks.\1.attn.qkv.'),
    (r'^layers\.(\d+)\.attn\.attn\.out_proj\.', r'blocks.\1.attn.proj.'),
    (r'^layers\.(\d+)\.attn\.gamma1\.weight$', r'blocks.\1.ls1.gamma'),
    (r'^layers\.(\d+)\.ffn\.gamma2\.weight$', r'blocks.\1.ls2.gamma'),
    (r'^layers\.(\d+)\.ffn\.layers\.0\.0\.', r'blocks.\1.mlp.fc1.'),
    (r'^layers\.(\d+)\.ffn\.layers\.1\.', r'blocks.\1.mlp.fc2.'),
    (r'^layers\.(\d+)\.', r'blocks.\1.'),
)


def strip_wrappers(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], str, int]:
    """Cut off whatever stands in front of the ViT's own names, and the groups of DINOv2's blocks.

    Where several ViTs lie in one file (student and teacher, a model and its average) the teacher
    or average is taken, else the largest.

    Returns:
        The ViT's tensors, the prefix cut off, and how many tensors lay outside it.
    """
    total = len(tensors)
    prefix = ''
    while wrapper := next((w for w in _WRAPPERS if all(k.startswith(w) for k in tensors)), ''):
        prefix += wrapper
        tensors = {key[len(wrapper) :]: value for key, value in tensors.items()}
    candidates = {
        key[: -len(root)]
        for key in tensors
        for root in _ROOTS
        if key.endswith('.' + root) or key == root
    } - set(_KEPT_PREFIXES)
    if candidates:

        def preference(candidate: str) -> tuple[bool, int, int]:
            averaged = 'ema' in candidate or 'teacher' in candidate
            inside = sum(key.startswith(candidate) for key in tensors)
            return averaged, inside, -len(candidate)

        best = max(sorted(candidates), key=preference)
        tensors = {k[len(best) :]: v for k, v in tensors.items() if k.startswith(best)}
        prefix += best
    outside = total - len(tensors)
    return {_GROUPED.sub('blocks.', k): v for k, v in tensors.items()}, prefix, outside


def from_openmmlab(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename mmpretrain's, mmseg's and mmdet's ViT; other layouts pass unchanged."""
    if not ({'layers.0.ln1.weight', 'patch_embed.projection.weight'} & tensors.keys()):
        return tensors
    renamed: dict[str, Tensor] = {}
    for name, value in tensors.items():
        for pattern, replacement in _OPENMMLAB:
            new_name, hits = re.subn(pattern, replacement, name)
            if hits:
                break
        renamed[new_name if hits else name] = value
    return renamed


def is_google(tensors: dict[str, Tensor]) -> bool:
    """Whether these are the names of Google's JAX ViTs (AugReg, big_vision)."""
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


_KINDS = {'kernel': 'weight', 'scale': 'weight', 'bias': 'bias'}


def _google_rule(name: str) -> tuple[str, Callable[[Tensor], Tensor]]:
    """The timm name of one array, and how to turn it."""
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
