"""mmcv's deformable convolutions and attention over our ops, against `grid_sample`."""

import pytest
import torch
import torch.nn.functional as F
from devices import DEVICES
from mmcv_cases import DTYPES, HALVES, assert_same_with_grads
from torch import Tensor

import vit_dense  # noqa: F401  (puts the stand-in in place before mmcv is imported)

pytest.importorskip('mmcv')

from mmcv import ops
from mmcv.ops.multi_scale_deform_attn import (
    MultiScaleDeformableAttnFunction,
    multi_scale_deformable_attn_pytorch,
)


def _by_grid_sample(
    x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor | None, groups: int
) -> Tensor:
    """Deformable convolution, stride 2, padding 1, as a plain sum over kernel taps."""
    batch, _, height, width = x.shape
    out_h, out_w = offset.shape[-2:]
    deform_groups = offset.shape[1] // 18
    offset = offset.view(batch, deform_groups, 9, 2, out_h, out_w)
    mask = mask.view(batch, deform_groups, 9, out_h, out_w)
    rows = torch.arange(out_h, dtype=x.dtype, device=x.device)[:, None] * 2 - 1
    columns = torch.arange(out_w, dtype=x.dtype, device=x.device)[None] * 2 - 1
    total: Tensor | float = 0.0
    for tap in range(9):
        sampled = []
        for group, part in enumerate(x.chunk(deform_groups, dim=1)):
            y = rows + tap // 3 + offset[:, group, tap, 0]
            x_ = columns + tap % 3 + offset[:, group, tap, 1]
            grid = torch.stack([2 * x_ / (width - 1) - 1, 2 * y / (height - 1) - 1], dim=-1)
            value = F.grid_sample(part, grid, align_corners=True)
            sampled.append(value * mask[:, group, tap, None])
        kernel = weight[:, :, tap // 3, tap % 3, None, None]
        total = total + F.conv2d(torch.cat(sampled, dim=1), kernel, groups=groups)
    assert isinstance(total, Tensor)
    return total if bias is None else total + bias[:, None, None]


def _conv_inputs(
    deform_groups: int, groups: int, dtype: torch.dtype = torch.float64, device: str = 'cpu'
) -> dict[str, Tensor]:
    inputs = {
        'x': torch.randn(2, 4, 7, 9),
        'offset': torch.randn(2, deform_groups * 18, 4, 5),
        'mask': torch.rand(2, deform_groups * 9, 4, 5),
        'weight': torch.randn(6, 4 // groups, 3, 3),
        'bias': torch.randn(6),
    }
    return {name: x.to(device, dtype).requires_grad_() for name, x in inputs.items()}


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('with_bias', [True, False])
@pytest.mark.parametrize(('groups', 'deform_groups'), [(1, 1), (2, 2)])
def test_modulated_deform_conv_equals_grid_sample(
    groups: int, deform_groups: int, with_bias: bool, device: str
) -> None:
    inputs = _conv_inputs(deform_groups, groups, device=device)
    if not with_bias:
        del inputs['bias']
    x, offset, mask, weight = (inputs[k] for k in ('x', 'offset', 'mask', 'weight'))
    bias = inputs.get('bias')
    out = ops.modulated_deform_conv2d(x, offset, mask, weight, bias, 2, 1, 1, groups, deform_groups)
    expected = _by_grid_sample(x, offset, mask, weight, bias, groups)
    assert_same_with_grads(out, expected, list(inputs.values()))


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize(('groups', 'deform_groups'), [(1, 1), (2, 2)])
def test_deform_conv_equals_grid_sample(groups: int, deform_groups: int, device: str) -> None:
    inputs = _conv_inputs(deform_groups, groups, device=device)
    x, offset, weight = inputs['x'], inputs['offset'], inputs['weight']
    out = ops.deform_conv2d(x, offset, weight, 2, 1, 1, groups, deform_groups)
    ones = torch.ones_like(inputs['mask'])
    expected = _by_grid_sample(x, offset, ones, weight, None, groups)
    assert_same_with_grads(out, expected, [x, offset, weight])
    # Alone, each gradient takes another path through mmcv's Python.
    for part in (x, offset, weight):
        again = ops.deform_conv2d(x, offset, weight, 2, 1, 1, groups, deform_groups)
        expected = _by_grid_sample(x, offset, ones, weight, None, groups)
        assert_same_with_grads(again, expected, [part])


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', HALVES)
@pytest.mark.parametrize('modulated', [True, False])
def test_deform_conv_in_half_precision_rounds_inputs_and_outputs_only(
    modulated: bool, dtype: torch.dtype, device: str
) -> None:
    half = _conv_inputs(1, 1, dtype, device)
    exact = {name: x.detach().float().requires_grad_() for name, x in half.items()}
    names = ['x', 'offset', 'mask', 'weight', 'bias'] if modulated else ['x', 'offset', 'weight']
    op = ops.modulated_deform_conv2d if modulated else ops.deform_conv2d
    out, expected = (op(*(inputs[name] for name in names), 2, 1) for inputs in (half, exact))
    assert out.dtype == dtype
    torch.testing.assert_close(out, expected.to(dtype))
    grads = torch.autograd.grad(out.sum(), [half[name] for name in names])
    expected_grads = torch.autograd.grad(expected.sum(), [exact[name] for name in names])
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(grad, expected_grad.to(dtype))


def test_deform_conv_of_no_images_is_refused_by_mmcv_itself() -> None:
    inputs = [x.detach() for x in _conv_inputs(1, 1).values()]
    x, offset, mask = (tensor[:0] for tensor in inputs[:3])
    with pytest.raises(ValueError, match='input is too small'):
        ops.modulated_deform_conv2d(x, offset, mask, inputs[3], inputs[4], 2, 1)


@pytest.mark.parametrize('dtype', HALVES)
def test_deform_layer_trains_under_autocast(dtype: torch.dtype) -> None:
    layer = ops.ModulatedDeformConv2dPack(4, 6, 3, padding=1)
    image = torch.randn(2, 4, 8, 8)
    expected = layer(image)
    with torch.autocast('cpu', dtype):
        out = layer(image)  # offsets come in half precision from the layer's own convolution
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), expected, rtol=0.02, atol=0.02)
    out.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())


SHAPES = [[6, 4], [3, 2]]


def _attention_inputs(
    batch: int, queries: int, dtype: torch.dtype = torch.float64, device: str = 'cpu'
) -> list[Tensor]:
    """Values, locations (some of them outside of the maps), weights."""
    inputs = [
        torch.randn(batch, 30, 2, 4),
        torch.rand(batch, queries, 2, 2, 3, 2) * 1.4 - 0.2,
        torch.rand(batch, queries, 2, 2, 3),
    ]
    return [x.to(device, dtype).requires_grad_() for x in inputs]


def _attend(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    shapes = torch.tensor(SHAPES, device=value.device)
    starts = torch.tensor([0, 24], device=value.device)
    return MultiScaleDeformableAttnFunction.apply(value, shapes, starts, locations, weights, 64)


@pytest.mark.parametrize('device', DEVICES)
def test_ms_deform_attn_equals_mmcv_reference(device: str) -> None:
    inputs = _attention_inputs(2, 5, device=device)
    shapes = torch.tensor(SHAPES, device=device)
    expected = multi_scale_deformable_attn_pytorch(inputs[0], shapes, inputs[1], inputs[2])
    assert_same_with_grads(_attend(*inputs), expected, inputs)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', HALVES)
def test_ms_deform_attn_in_half_precision_rounds_inputs_and_outputs_only(
    dtype: torch.dtype, device: str
) -> None:
    half = _attention_inputs(2, 5, dtype, device)
    exact = [x.detach().float().requires_grad_() for x in half]
    out, expected = _attend(*half), _attend(*exact)
    assert out.dtype == dtype
    torch.testing.assert_close(out, expected.to(dtype))
    grads = torch.autograd.grad(out.sum(), half)
    expected_grads = torch.autograd.grad(expected.sum(), exact)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(grad, expected_grad.to(dtype))


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize(('batch', 'queries'), [(2, 0), (0, 5)])
def test_ms_deform_attn_of_nothing(
    batch: int, queries: int, dtype: torch.dtype, device: str
) -> None:
    inputs = _attention_inputs(batch, queries, dtype, device)
    out = _attend(*inputs)
    assert out.shape == (batch, queries, 8)
    assert out.dtype == dtype
    for x, grad in zip(inputs, torch.autograd.grad(out.sum(), inputs), strict=True):
        assert torch.equal(grad, torch.zeros_like(x))


@pytest.mark.parametrize('device', DEVICES)
def test_attention_layer_of_mmcv_reads_what_its_offsets_point_at(device: str) -> None:
    """On CUDA mmcv's layer calls the op, on CPU its own PyTorch code."""
    layer = ops.MultiScaleDeformableAttention(8, 2, num_levels=2, num_points=3, dropout=0.0)
    layer = layer.to(device)
    queries = torch.randn(5, 2, 8, device=device)  # (Lq, B, C)
    value = torch.randn(30, 2, 8, device=device)
    reference = torch.rand(2, 5, 2, 2, device=device)
    shapes = torch.tensor(SHAPES, device=device)
    starts = torch.tensor([0, 24], device=device)
    out = layer(
        queries,
        value=value,
        reference_points=reference,
        spatial_shapes=shapes,
        level_start_index=starts,
    )
    # As initialised: the same offsets and equal weights for every query.
    offsets = layer.sampling_offsets.bias.view(2, 2, 3, 2) / shapes.flip(1)[:, None]
    locations = reference[:, :, None, :, None] + offsets  # (B, Lq, heads, levels, points, 2)
    projected = layer.value_proj(value.transpose(0, 1)).view(2, 30, 2, 4)
    weights = torch.full((2, 5, 2, 2, 3), 1 / 6, device=device)
    expected = layer.output_proj(_attend(projected, locations, weights)).transpose(0, 1) + queries
    assert_same_with_grads(out, expected, list(layer.value_proj.parameters()))
