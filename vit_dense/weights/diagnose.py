"""Guessing from names and shapes what a weight file is, to tell why it does not fit."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

__all__ = ['SIZES', 'Anatomy', 'depth_of', 'explain', 'first_match']

# Ordered from the distinctive to the general: the first pattern found among the names wins.
_FAMILIES = (
    ('a released ViT-Adapter or ViT-CoMer', r'(?:^|\.)(?:spm\.stem|interactions\.\d+)\.'),
    ('a ResNet', r'(?:^|\.)layer1\.0\.conv1\.'),
    ('an EfficientNet or MobileNet', r'(?:^|\.)conv_stem\.'),
    ('a Swin Transformer', r'(?:layers|stages)\.\d+\.blocks\.\d+\.attn\.(?:qkv|w_msa)\.'),
    ('a ConvNeXt', r'stages\.\d+\.(?:blocks\.)?\d+\.(?:conv_dw|dwconv|depthwise_conv)\.'),
    (
        'a hierarchical transformer (PVT, SegFormer)',
        r'(?:^|\.)(?:patch_embed(?:s\.\d|[1-4])|stages\.\d+\.blocks\.\d+)\.',
    ),
    ('a ViT of the transformers library', r'(?:^|\.)encoder\.layer\.\d+\.'),
    ('a Segment Anything encoder', r'\.rel_pos_h$'),
    ('a DINOv3', r'(?:^|\.)storage_tokens$'),
    (
        'an EVA-02',
        r'blocks\.0\.(?:mlp\.(?:w1|fc1_g|fc1_x)|attn\.q_proj)\.|(?:^|\.)rope\.freqs_cos$',
    ),
    ('a BEiT or EVA', r'relative_position_bias_table$|blocks\.0\.attn\.q_bias$'),
    ("a CLIP in its authors' layout", r'(?:^|\.)transformer\.resblocks\.\d+\.'),
    ('a plain ViT', r'blocks\.0\.attn\.qkv\.weight$'),
)
SIZES = {
    192: 'tiny',
    384: 'small',
    768: 'base',
    1024: 'large',
    1280: 'huge',
    1408: 'giant',
    1536: 'giant',
}
_KERNELS = ('patch_embed.proj.weight', 'patch_embed.projection.weight', 'conv1.weight')
_BLOCK = re.compile(r'^(?:.*\.)?blocks\.(\d+)\.')


@dataclass(frozen=True)
class Anatomy:
    """What can be seen of a network in its state dict; None where it cannot be seen.

    Attributes:
        family: Such as `'a plain ViT'`.
        width: Channels of a token.
        depth: Number of blocks.
        patch: (height, width) of the patch kernel.
    """

    family: str
    width: int | None
    depth: int | None
    patch: tuple[int, int] | None

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> 'Anatomy':
        """Look at a state dict under any names."""
        family = first_match(_FAMILIES, tensors) or 'unknown'
        is_vit = _any_match(r'blocks\.0\.|resblocks\.0\.', tensors)
        kernel = next((t for k, t in tensors.items() if k.endswith(_KERNELS) and t.ndim == 4), None)
        norm = next((t for k, t in tensors.items() if k.endswith('blocks.0.norm1.weight')), None)
        width = norm.shape[0] if norm is not None else None
        if width is None and kernel is not None and is_vit:
            width = kernel.shape[0]
        patch = (int(kernel.shape[2]), int(kernel.shape[3])) if kernel is not None else None
        return cls(family, width, depth_of(tensors), patch if is_vit else None)

    def __str__(self) -> str:
        facts = []
        if self.width is not None:
            size = SIZES.get(self.width)
            facts.append(f'width {self.width}{f" ({size})" if size else ""}')
        if self.depth is not None:
            facts.append(f'depth {self.depth}')
        if self.patch is not None:
            facts.append(f'patch {self.patch[0]}x{self.patch[1]}')
        return self.family + (f' of {", ".join(facts)}' if facts else '')


def depth_of(names: Iterable[str]) -> int | None:
    """Number of blocks counted in `blocks.i.` names, or None."""
    found = [int(match[1]) for name in names if (match := _BLOCK.match(name))]
    return max(found) + 1 if found else None


def explain(in_file: Anatomy, in_model: Anatomy) -> str:
    """One sentence on why the file does not fit, and what to do."""
    wanted = f'the model is {in_model}'
    if in_file.family == 'unknown':
        return (
            f'the names are of no family known here, while {wanted}; convert the file to '
            "timm's names, or choose the model_name it was trained with"
        )
    if in_file.family != in_model.family:
        return (
            f'it looks like {in_file}, while {wanted}; choose a model_name of the family of the '
            'weights, or weights of the family of model_name'
        )
    differing = [
        f'{label} {theirs} in the file and {ours} in the model'
        for label, theirs, ours in (
            ('width', in_file.width, in_model.width),
            ('depth', in_file.depth, in_model.depth),
            ('patch_size', in_file.patch, in_model.patch),
        )
        if theirs is not None and ours is not None and theirs != ours
    ]
    if differing:
        return f'{"; ".join(differing)}; choose the model_name (or its size) that the weights have'
    return f'it looks like the same architecture ({in_file}) with other parts; compare the names'


def first_match(table: Iterable[tuple[str, str]], names: Iterable[str]) -> str:
    """The first label of a table (label, pattern) whose pattern is in some name; `''` if none."""
    listed = list(names)
    return next((label for label, regex in table if _any_match(regex, listed)), '')


def _any_match(regex: str, names: Iterable[str]) -> bool:
    pattern = re.compile(regex)
    return any(pattern.search(name) for name in names)
