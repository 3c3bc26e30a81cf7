"""One small hierarchical model per peculiarity."""

from typing import Any

import pytest

from vit_dense.backbones import TimmPyramid

SWIN = {'embed_dim': 24, 'depths': (1, 1, 2, 2), 'num_heads': (1, 2, 3, 4)}
# name -> (arguments of timm's model, arguments that timm needs for sizes of its own)
SMALL: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    'swin_tiny_patch4_window7_224': (
        SWIN,
        {'strict_img_size': False, 'always_partition': True},
    ),
    'swinv2_tiny_window8_256': (SWIN, {'strict_img_size': False}),  # maps in NHWC
    'test_convnext': ({}, {}),
    'test_resnet': ({}, {}),
    'mobilevitv2_050': ({}, {}),
    'mobilevit_xxs': ({}, {}),
    'edgenext_xx_small': ({}, {}),
    'efficientvit_b0': ({}, {}),
    'pvt_v2_b0': ({}, {}),
    'hiera_tiny_224': ({'embed_dim': 24}, {}),
    'fastvit_t8': ({}, {}),
    'poolformer_s12': ({}, {}),  # timm does not tell its layers
}
every_model = pytest.mark.parametrize('name', SMALL)
# of one kind of names each
some_models = pytest.mark.parametrize(
    'name',
    [
        'swin_tiny_patch4_window7_224',
        'test_convnext',
        'mobilevitv2_050',
        'hiera_tiny_224',
        'poolformer_s12',
    ],
)


def build(name: str, **kwargs) -> TimmPyramid:
    model_kwargs = {**SMALL[name][0], **kwargs.pop('model_kwargs', {})}
    return TimmPyramid(name, model_kwargs=model_kwargs, **kwargs)


def sizes(height: int, width: int) -> list[tuple[int, int]]:
    return [(-(-height // s), -(-width // s)) for s in (4, 8, 16, 32)]
