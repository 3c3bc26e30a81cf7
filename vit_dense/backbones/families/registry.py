"""Find the family of a timm model."""

from __future__ import annotations

import difflib

import timm

from .base import Family
from .class_attention import CaitFamily, XcitFamily
from .convit import ConvitFamily
from .hybrid import HybridFamily
from .language import DeepSeekFamily, GemmaFamily, QwenFamily
from .naflex import NaFlexFamily
from .relative import BeitFamily, RelPosFamily
from .rotary import EvaFamily
from .sam import SamFamily
from .tnt import TntFamily

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
    'convit': ConvitFamily(),
    'tnt': TntFamily(),
    'vitamin': HybridFamily(),
    'deepseek_vit': DeepSeekFamily(),
    'gemma4_vit': GemmaFamily(),
    'qwen3_vit': QwenFamily(),
}
"""Keys are the modules of `timm.models` that register the models."""

UNSUPPORTED: dict[str, str] = {
    'mlp_mixer': 'mixes tokens by weights that fit one number of them, hence one image size',
    'convmixer': 'is a convolutional network of one stride, without attention',
    'volo': 'runs its blocks on two token grids, of strides 8 and 16',
    'crossvit': 'runs two ViTs side by side, on patches of 12 and 16 pixels',
    'pit': 'shrinks its token grid between blocks, to strides that are not 4, 8, 16 and 32',
    'sequencer': 'replaces attention by LSTMs, on two token grids of strides that no head takes',
}
"""Modules whose models are neither isotropic ViTs nor pyramids of strides 4 to 32, and why."""


def timm_module(model_name: str) -> str:
    """Return the module of `timm.models` that registers a model, named with or without a tag.

    Raises:
        ValueError: If there is no such model or tag; the message lists near names, or the tags.
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


def check_supported(model_name: str, module: str) -> None:
    """Check that a backbone can be made of the models of a module.

    Raises:
        ValueError: If it cannot.
    """
    if module in UNSUPPORTED:
        raise ValueError(
            f'model_name={model_name!r} (timm.models.{module}) {UNSUPPORTED[module]}: it is '
            f'neither an isotropic ViT for TimmViT nor a pyramid for TimmPyramid. Choose a ViT '
            f'such as vit_base_patch16_224 or a hierarchical model such as '
            f'swin_tiny_patch4_window7_224'
        )


def find_family(model_name: str) -> Family:
    """Return the family of a timm model name, with or without a pretrained tag.

    Raises:
        ValueError: If there is no such model or tag, or if it is not a ViT of a known family.
    """
    module = timm_module(model_name)
    check_supported(model_name, module)
    if module not in FAMILIES:
        raise ValueError(
            f'model_name={model_name!r} comes from timm.models.{module}; TimmViT takes isotropic '
            f'ViTs from timm.models.{{{", ".join(FAMILIES)}}}, which keep one token grid in all '
            f'blocks, such as vit_base_patch16_224, deit3_small_patch16_224, '
            f'vit_small_patch14_dinov2, eva02_base_patch14_224 or beit_base_patch16_224. For '
            f"hierarchical models there is backbone=dict(type='TimmPyramid', model_name=...), "
            f'which says when it is built whether it can take this one'
        )
    return FAMILIES[module]
