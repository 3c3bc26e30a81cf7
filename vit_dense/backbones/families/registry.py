"""Which family a timm model belongs to."""

from __future__ import annotations

import difflib

import timm

from .base import Family
from .others import CaitFamily, HybridFamily, NaFlexFamily, SamFamily, XcitFamily
from .relative import BeitFamily, RelPosFamily
from .rotary import EvaFamily

FAMILIES: dict[str, Family] = {
    'vision_transformer': Family(),
    'deit': Family(),
    'eva': EvaFamily(),
    'beit': BeitFamily(),
    'vision_transformer_relpos': RelPosFamily(),
    'vision_transformer_sam': SamFamily(),
    'vision_transformer_hybrid': HybridFamily(),
    'naflexvit': NaFlexFamily(),
    'cait': CaitFamily(),
    'xcit': XcitFamily(),
}
"""By the module of `timm.models` that registers a model."""


def timm_module(model_name: str) -> str:
    """The module of `timm.models` that registers a model, named with or without pretrained tag.

    Raises:
        ValueError: no such model (names the nearest), or no such tag (names the model's).
    """
    if ':' in model_name or '/' in model_name:
        raise ValueError(
            f'model_name={model_name!r}: give a name that timm.list_models() lists; for weights '
            f'from elsewhere add checkpoint="file.safetensors"'
        )
    architecture, _, tag = model_name.partition('.')
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=5)
        raise ValueError(
            f'model_name={model_name!r} is not a timm model; nearest names: '
            f'{", ".join(near) or "none"}. timm.list_models() lists all of them'
        )
    tags = [name.partition('.')[2] for name in timm.list_pretrained(f'{architecture}.*')]
    if tag and tag not in tags:
        raise ValueError(
            f'model_name={model_name!r}: timm knows no pretrained tag {tag!r} of {architecture}; '
            f'its tags: {", ".join(tags) or "none"}'
        )
    return timm.model_entrypoint(architecture).__module__.rpartition('.')[2]


def find_family(model_name: str) -> Family:
    """The family of a timm model name, with or without a pretrained tag.

    Raises:
        ValueError: no such model or tag, or a model that is not an isotropic ViT of a known family.
    """
    module = timm_module(model_name)
    if module not in FAMILIES:
        raise ValueError(
            f'model_name={model_name!r} comes from timm.models.{module}; TimmViT takes isotropic '
            f'ViTs from timm.models.{{{", ".join(FAMILIES)}}}, which keep one token grid in all '
            f'blocks, such as vit_base_patch16_224, deit3_small_patch16_224, '
            f'vit_small_patch14_dinov2, eva02_base_patch14_224 or beit_base_patch16_224. For '
            f"hierarchical models there is backbone=dict(type='TimmPyramid', model_name=...)"
        )
    return FAMILIES[module]
