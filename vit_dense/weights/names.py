"""From the names in a weight file to the names that its authors gave the bare ViT.

Wrappers in front of the names are cut off (`module.`, `backbone.vit.model.`), and the layouts of
Google, OpenMMLab and Hugging Face are renamed. The result is what timm's `checkpoint_filter_fn`
understands (see `convert`).
"""

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple, TypeVar

from torch import Tensor

from .google import from_google, is_google
from .huggingface import from_hugging_face, is_hugging_face
from .renaming import rename

__all__ = ['ViTNames', 'bare_vit_names', 'is_left_out_map', 'strip_parallel', 'strip_prefix']

Value = TypeVar('Value')

_PARALLEL = ('module.', '_orig_mod.')  # DistributedDataParallel, torch.compile
# A parameter of every adapter that interacts with its ViT, and parts that belong to one map each.
_ADAPTER = 'level_embed'
_MAP_PART = re.compile(r'(|.*\.)(?:up|spm\.fc1|norm[1-4])\.')
# Names at the root of a ViT, in some layout; what precedes one is a wrapper.
_ROOTS = (
    'patch_embed.proj.weight',
    'patch_embed.projection.weight',
    'blocks.0.norm1.weight',
    'pixel_embed.proj.weight',  # TNT
    'embeddings.cls_token',  # Hugging Face
)
_AVERAGED = re.compile(r'(?:^|[._])(?:ema|teacher)(?=[._])')  # not `semantic_branch.`
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


class ViTNames(NamedTuple):
    """The tensors of a bare ViT.

    Attributes:
        tensors: By their authors' names, or by timm's where the layout is renamed here.
        prefix: What was cut off every name.
        outside: Number of tensors outside the prefix.
        origin: 'google', 'openmmlab' or 'hugging face' where the names were renamed here, else ''.
    """

    tensors: dict[str, Tensor]
    prefix: str
    outside: int
    origin: str


def bare_vit_names(tensors: Mapping[str, Tensor]) -> ViTNames:
    """Find the ViT in a state dict and put it under the names that timm's filters read.

    If a file has several ViTs (student and teacher, a model and its average), the teacher or the
    average is taken, otherwise the largest.
    """
    if is_google(tensors):
        return ViTNames(from_google(dict(tensors)), '', 0, 'google')
    inside, prefix = strip_prefix(tensors, _ROOTS, kept=_KEPT_PREFIXES)
    outside = len(tensors) - len(inside)
    inside = {_GROUPED.sub('blocks.', name): tensor for name, tensor in inside.items()}
    if is_hugging_face(inside):
        return ViTNames(from_hugging_face(inside), prefix, outside, 'hugging face')
    renamed = _from_openmmlab(inside)
    return ViTNames(renamed, prefix, outside, 'openmmlab' if renamed is not inside else '')


def strip_parallel(tensors: Mapping[str, Value]) -> tuple[dict[str, Value], str]:
    """Remove the prefixes that DistributedDataParallel and torch.compile add to all names.

    Returns:
        The values by their new names, and what was cut off.
    """
    prefix, stripped = '', {str(name): value for name, value in tensors.items()}
    while found := next((w for w in _PARALLEL if all(k.startswith(w) for k in stripped)), ''):
        if not stripped:
            break
        prefix += found
        stripped = {name[len(found) :]: value for name, value in stripped.items()}
    return stripped, prefix


def strip_prefix(
    tensors: Mapping[str, Value], roots: Collection[str], *, kept: Collection[str] = ()
) -> tuple[dict[str, Value], str]:
    """Remove the prefix of a network's own names.

    Args:
        tensors: A state dict.
        roots: Names of the network, of which at least one is in the file.
        kept: Prefixes to leave alone.

    Returns:
        What begins with the prefix, by the rest of its name, and the prefix. Where several fit,
        the one with the most of the names; of equals an average or a teacher, then the one with
        the most tensors.
    """
    stripped, prefix = strip_parallel(tensors)
    known: dict[str, int] = {}
    for name in stripped:
        parts = name.split('.')
        for i in range(len(parts)):
            if '.'.join(parts[i:]) in roots:
                candidate = ''.join(f'{part}.' for part in parts[:i])
                known[candidate] = known.get(candidate, 0) + 1
    for candidate in kept:
        known.pop(candidate, None)
    if not known:
        return stripped, prefix

    def preference(candidate: str) -> tuple[int, bool, int, int]:
        averaged = bool(_AVERAGED.search(candidate))
        inside = sum(name.startswith(candidate) for name in stripped)
        return known[candidate], averaged, inside, -len(candidate)

    best = max(sorted(known), key=preference)
    inside = {k[len(best) :]: value for k, value in stripped.items() if k.startswith(best)}
    return inside, prefix + best


def _from_openmmlab(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename mmpretrain's, mmseg's and mmdet's ViT; other layouts pass unchanged."""
    if not ({'layers.0.ln1.weight', 'patch_embed.projection.weight'} & tensors.keys()):
        return tensors
    return {rename(name, _OPENMMLAB): tensor for name, tensor in tensors.items()}


def is_left_out_map(name: str, own: Collection[str]) -> bool:
    """Return whether a tensor is of a map that an adapter does not return (`out_indices`).

    Files of adapters with all maps fit then as well.

    Args:
        name: In a file, as it would be in the model.
        own: The names of the model's parameters.
    """
    found = _MAP_PART.match(name)
    if not found or f'{found[1]}{_ADAPTER}' not in own:
        return False
    return not any(one.startswith(found[0]) for one in own)
