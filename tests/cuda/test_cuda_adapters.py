"""Adapters and deformable attention on a GPU, against the CPU and against plain float32."""

import pytest
import torch
from cuda_cases import assert_close, build, cosine, every_adapter, maps_and_gradients

from vit_dense.ops import ms_deform_attn

SHAPES = [(5, 7), (3, 4), (2, 1)]


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
def test_deformable_attention_equals_the_cpu(dtype: torch.dtype) -> None:
    tokens = sum(h * w for h, w in SHAPES)
    value = torch.randn(2, tokens, 3, 4, dtype=dtype)
    locations = torch.rand(2, 6, 3, 3, 2, 2, dtype=dtype) * 1.6 - 0.3
    weights = torch.rand(2, 6, 3, 3, 2, dtype=dtype)
    results = []
    for device in ('cpu', 'cuda'):
        leaves = [x.to(device).requires_grad_() for x in (value, locations, weights)]
        out = ms_deform_attn(leaves[0], SHAPES, *leaves[1:])
        results.append([out, *torch.autograd.grad(out.square().sum(), leaves)])
    assert results[1][0].is_cuda
    assert_close(results[1], results[0], 1e-9 if dtype == torch.float64 else 1e-4)


@every_adapter
@pytest.mark.parametrize('window', [None, 3])
def test_maps_and_gradients_equal_the_cpu(adapter: str, window: int | None) -> None:
    model = build(adapter, window_size=window).double()
    image = torch.randn(2, 3, 70, 101, dtype=torch.double)
    expected, gradients = maps_and_gradients(model, image)
    found, on_cuda = maps_and_gradients(build(adapter, window_size=window).double().cuda(),
                                        image.cuda())  # fmt: skip
    assert_close(found, expected, 1e-4)
    assert_close(on_cuda, gradients, 1e-3)


@every_adapter
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_mixed_precision_is_near_float32(adapter: str, dtype: torch.dtype) -> None:
    model, image = build(adapter).cuda(), torch.randn(2, 3, 64, 96, device='cuda')
    expected, gradients = maps_and_gradients(model, image)
    with torch.autocast('cuda', dtype):
        found, half = maps_and_gradients(model, image)
    assert all(x.isfinite().all() for x in (*found, *half))
    assert cosine(found, expected) > 0.99
    assert cosine(half, gradients) > 0.9


@every_adapter
@pytest.mark.parametrize('mode', ['channels_last', 'grad_checkpointing'])
def test_modes_change_nothing(adapter: str, mode: str) -> None:
    image = torch.randn(2, 3, 64, 96, device='cuda', dtype=torch.double)
    expected, gradients = maps_and_gradients(build(adapter).double().cuda(), image)
    model = build(adapter, grad_checkpointing=mode == 'grad_checkpointing').double().cuda()
    if mode == 'channels_last':
        model.to(memory_format=torch.channels_last)
        image = image.contiguous(memory_format=torch.channels_last)
    found, changed = maps_and_gradients(model, image)
    assert_close(found, expected, 1e-6)
    assert_close(changed, gradients, 1e-6)


@every_adapter
def test_forward_is_bit_equal_in_a_second_run(adapter: str) -> None:
    model, image = build(adapter).cuda().eval(), torch.randn(2, 3, 64, 96, device='cuda')
    with torch.no_grad():
        for x, y in zip(model(image), model(image), strict=True):
            assert torch.equal(x, y)
