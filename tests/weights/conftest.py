"""The builder of small ViTs as a fixture."""

from collections.abc import Callable

import pytest
from small_vits import build_small
from torch import nn


@pytest.fixture
def build() -> Callable[..., nn.Module]:
    """build(cls=VisionTransformer, seed=0, **timm arguments): a small random ViT."""
    return build_small
