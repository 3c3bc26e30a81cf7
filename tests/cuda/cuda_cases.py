"""What the tests on a GPU share: small adapters, and their maps and gradients."""

from collections.abc import Sequence

import pytest
import torch
from families import small_kwargs
from mmengine.registry import MODELS
from torch import Tensor, nn

ADAPTERS = {
    'SimpleFeaturePyramid': {'out_channels': 16},
    'ViTAdapter': {'deform_num_heads': 3, 'conv_inplane': 8},
    'ViTCoMer': {'deform_num_heads': 3, 'conv_inplane': 8},
}
every_adapter = pytest.mark.parametrize('adapter', ADAPTERS)
NAME = 'vit_tiny_patch16_224'


def build(adapter: str, **vit: object) -> nn.Module:
    """An adapter on a narrow ViT, the same at every call, with no parameter left at zero."""
    torch.manual_seed(0)
    config = {'type': 'TimmViT', 'model_name': NAME, 'model_kwargs': small_kwargs(NAME), **vit}
    model = MODELS.build({'type': adapter, 'vit': config, **ADAPTERS[adapter]})
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return model.train()


def maps_and_gradients(model: nn.Module, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    maps = model(image)
    loss = sum(x.square().mean() for x in (y.to(image.dtype) for y in maps))
    return list(maps), list(torch.autograd.grad(loss, list(model.parameters())))


def assert_close(found: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float) -> None:
    """Compares tensors relative to the largest value of each."""
    for x, y in zip(found, expected, strict=True):
        assert x.shape == y.shape
        difference = (x.detach().cpu().double() - y.detach().cpu().double()).abs().max()
        assert difference <= tolerance * y.abs().max().item() + 1e-12


def cosine(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The cosine between two lists of tensors, each taken as one vector."""
    x, y = (torch.cat([one.detach().flatten().double() for one in x]) for x in (found, expected))
    return torch.cosine_similarity(x, y, dim=0).item()
