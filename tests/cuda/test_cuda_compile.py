"""torch.compile on a GPU gives the maps and gradients of eager mode."""

import pytest
import torch
from cuda_cases import assert_close, build, cosine, maps_and_gradients


@pytest.mark.parametrize('adapter', ['ViTAdapter', 'ViTCoMer'])
def test_compiled_equals_eager(adapter: str) -> None:
    model, image = build(adapter).cuda(), torch.randn(2, 3, 64, 96, device='cuda')
    expected, gradients = maps_and_gradients(model, image)
    model.compile(dynamic=False, fullgraph=True)
    found, compiled = maps_and_gradients(model, image)
    assert_close(found, expected, 1e-3)
    assert cosine(compiled, gradients) > 0.9999
