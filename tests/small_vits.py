"""Small ViTs with random values everywhere, so that no zero initialisation hides a wrong name."""

from functools import partial
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

SMALL = {'embed_dim': 32, 'depth': 2, 'num_heads': 2, 'num_classes': 0}


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.eval()


def build_small(cls: Any = VisionTransformer, seed: int = 0, **kwargs: Any) -> nn.Module:
    """A timm ViT of two blocks and 32 channels on 4x4 patches; `kwargs` are timm's."""
    defaults = {'img_size': 64, 'patch_size': 16, **SMALL}
    if cls is VisionTransformer:
        defaults['global_pool'] = 'token' if kwargs.get('class_token', True) else 'avg'
        defaults['norm_layer'] = partial(nn.LayerNorm, eps=1e-6)
    return randomise(cls(**(defaults | kwargs)), seed)


def assert_same(model: nn.Module, expected: dict[str, torch.Tensor]) -> None:
    """Bit for bit, name for name."""
    state = model.state_dict()
    assert state.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(state[name], tensor), name


def assert_complete(report: Any) -> None:
    assert report.missing == []
    assert report.unexpected == []
    assert report.matched == 1
