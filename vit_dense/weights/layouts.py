"""Whose layout a file of ViT weights has, told by its names, for the user to read."""

from collections.abc import Iterable

from .diagnose import first_match

__all__ = ['name_layout']

# Ordered from the distinctive to the general: the first pattern found among the names wins.
_LAYOUTS = (
    ("Google's arrays (AugReg, big_vision)", r'(?:^|/)Transformer/encoderblock'),
    (
        "OpenMMLab's ViT (mmpretrain, mmsegmentation, mmdetection)",
        r'(?:^|\.)layers\.\d+\.(?:ln|norm)1\.|(?:^|\.)patch_embed\.projection\.',
    ),
    ('Segment Anything, or a ViTDet', r'(?:^|\.)blocks\.\d+\.attn\.rel_pos_h$'),
    ('DINOv3', r'(?:^|\.)storage_tokens$'),
    ('EVA-02', r'blocks\.\d+\.(?:mlp\.(?:w1|fc1_g)|attn\.q_proj)\.'),
    ('BEiT or EVA, or a small EVA-02', r'relative_position_bias_table$|blocks\.\d+\.attn\.q_bias$'),
    ('CLIP', r'(?:^|\.)transformer\.resblocks\.\d+\.'),
    ('MAE, with its decoder', r'(?:^|\.)decoder_(?:embed|blocks)\.'),
    ('DINOv2', r'(?:^|\.)(?:register_tokens|mask_token)$'),
    ('a distilled DeiT', r'(?:^|\.)dist_token$'),
    ('DeiT III', r'blocks\.\d+\.gamma_1$'),
    ("timm's names, which DeiT, MAE and DINO share", r'(?:^|\.)blocks\.\d+\.attn\.qkv\.weight$'),
)


def name_layout(names: Iterable[str]) -> str:
    """Name the layout of a state dict; `''` if none of those known."""
    return first_match(_LAYOUTS, names)
