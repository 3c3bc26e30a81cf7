"""What a weight file is: whose layout its names follow, which architecture, of what size.

One table serves the log line of a load, the error of a file that does not fit, and the architecture
that the converter builds (`architecture`).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

__all__ = ['SIZES', 'Identity', 'depth_of', 'explain', 'name_layout']


_PLAIN = 'a plain ViT'
_BEIT_LIKE = 'BEiT or EVA, or a small EVA-02'
# (pattern, architecture for errors, whose layout for the log), from the distinctive to the general:
# the first pattern found among the names wins. Networks that are not loaded here have no layout.
_KINDS = (
    (r'(?:^|\.)(?:spm\.stem|interactions\.\d+)\.', 'a ViT-Adapter or ViT-CoMer', ''),
    (r'(?:^|\.)layer1\.0\.conv1\.', 'a ResNet', ''),
    (r'(?:^|\.)conv_stem\.', 'an EfficientNet or MobileNet', ''),
    (r'(?:layers|stages)\.\d+\.blocks\.\d+\.attn\.(?:qkv|w_msa)\.', 'a Swin Transformer', ''),
    (r'stages\.\d+\.(?:blocks\.)?\d+\.(?:conv_dw|dwconv|depthwise_conv)\.', 'a ConvNeXt', ''),
    (
        r'(?:^|\.)(?:patch_embed(?:s\.\d|[1-4])|stages\.\d+\.blocks\.\d+)\.',
        'a hierarchical transformer (PVT, SegFormer)',
        '',
    ),
    (r'(?:^|\.)embeddings\.cls_token$', _PLAIN, "Hugging Face's ViT (ViT, DINOv2, DINOv3)"),
    (r'(?:^|\.)encoder\.layer\.\d+\.', 'another network of the transformers library', ''),
    (r'(?:^|/)Transformer/encoderblock', _PLAIN, "Google's arrays (AugReg, big_vision)"),
    (
        r'(?:^|\.)layers\.\d+\.(?:ln|norm)1\.|(?:^|\.)patch_embed\.projection\.',
        _PLAIN,
        "OpenMMLab's ViT (mmpretrain, mmsegmentation, mmdetection)",
    ),
    (
        r'(?:^|\.)blocks\.\d+\.attn\.rel_pos_h$',
        'a Segment Anything encoder',
        'Segment Anything, or a ViTDet',
    ),
    (r'(?:^|\.)storage_tokens$', 'a DINOv3', 'DINOv3'),
    (r'blocks\.\d+\.(?:mlp\.(?:w1|fc1_g|fc1_x)|attn\.q_proj)\.', 'an EVA-02', 'EVA-02'),
    (r'(?:^|\.)rope\.freqs_cos$', 'an EVA-02', _BEIT_LIKE),
    (r'relative_position_bias_table$|blocks\.\d+\.attn\.q_bias$', 'a BEiT or EVA', _BEIT_LIKE),
    (r'(?:^|\.)transformer\.resblocks\.\d+\.', "a CLIP in its authors' layout", 'CLIP'),
    (r'(?:^|\.)decoder_(?:embed|blocks)\.', _PLAIN, 'MAE, with its decoder'),
    (r'(?:^|\.)decoder\.mask_token$', _PLAIN, "this package's masked autoencoder"),
    (r'(?:^|\.)(?:register_tokens|mask_token)$', _PLAIN, 'DINOv2'),
    (r'(?:^|\.)dist_token$', _PLAIN, 'a distilled DeiT'),
    (r'blocks\.\d+\.gamma_1$', _PLAIN, 'DeiT III'),
    (r'blocks\.\d+\.attn\.qkv\.weight$', _PLAIN, "timm's names, which DeiT, MAE and DINO share"),
)
_UNKNOWN = 'unknown'
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
_FIRST_BLOCK = re.compile(r'(?:res)?blocks\.0\.')


@dataclass(frozen=True)
class Identity:
    """What the names and shapes of a state dict reveal about the network; None if unknown.

    Attributes:
        family: Architecture, such as `'a plain ViT'`; `'unknown'` for names of no known kind.
        width: Channels of a token.
        depth: Number of blocks.
        patch: (height, width) of the patch kernel, in pixels.
    """

    family: str
    width: int | None
    depth: int | None
    patch: tuple[int, int] | None

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> 'Identity':
        """Identify a state dict; width, depth and patch need names such as `blocks.0.norm1`."""
        is_vit = any(_FIRST_BLOCK.search(name) for name in tensors)
        kernel = next((t for k, t in tensors.items() if k.endswith(_KERNELS) and t.ndim == 4), None)
        norm = next((t for k, t in tensors.items() if k.endswith('blocks.0.norm1.weight')), None)
        width = norm.numel() if norm is not None else None
        if width is None and kernel is not None and is_vit:
            width = kernel.shape[0]
        patch = (int(kernel.shape[2]), int(kernel.shape[3])) if kernel is not None else None
        return cls(_identify(tensors)[0], width, depth_of(tensors), patch if is_vit else None)

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


def name_layout(names: Iterable[str]) -> str:
    """Return whose layout the names of a state dict follow, for the log; `''` if unknown."""
    return _identify(names)[1]


def depth_of(names: Iterable[str]) -> int | None:
    """Return the number of blocks counted in `blocks.i.` names, or None."""
    found = [int(match[1]) for name in names if (match := _BLOCK.match(name))]
    return max(found) + 1 if found else None


def explain(in_file: Identity, in_model: Identity) -> str:
    """Return one sentence on why the file does not fit the model and what to do."""
    wanted = f'the model is {in_model}'
    if in_file.family == _UNKNOWN:
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


def _identify(names: Iterable[str]) -> tuple[str, str]:
    """Return the architecture and whose layout the names follow."""
    listed = list(names)
    for pattern, family, layout in _KINDS:
        if any(re.search(pattern, name) for name in listed):
            return family, layout
    return _UNKNOWN, ''
