"""mmcv's own Python functions over our `mmcv._ext`, against independent references."""

import importlib
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

import vit_dense  # noqa: F401  (puts the stand-in in place before mmcv is imported)

pytest.importorskip('mmcv')

from mmcv import ops

_LEAF: dict[str, Any] = {'dtype': torch.float64, 'requires_grad': True}


def _boxes(count: int) -> Tensor:
    corner = torch.rand(count, 2) * 20
    return torch.cat([corner, corner + 2 + torch.rand(count, 2) * 15], dim=1)


def _iou(a: list[float], b: list[float], offset: int) -> float:
    width = max(min(a[2], b[2]) - max(a[0], b[0]) + offset, 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]) + offset, 0)
    areas = [(c[2] - c[0] + offset) * (c[3] - c[1] + offset) for c in (a, b)]
    return width * height / (sum(areas) - width * height)


@pytest.mark.parametrize('name', ['mmseg.models', 'mmdet.models'])
def test_model_packages_import(name: str) -> None:
    assert importlib.import_module(name)


@pytest.mark.parametrize('offset', [0, 1])
def test_nms_equals_greedy_loop(offset: int) -> None:
    torch.manual_seed(0)
    boxes, scores = _boxes(60), torch.rand(60)
    dets, keep = ops.nms(boxes, scores, 0.4, offset=offset)
    expected: list[int] = []
    for i in scores.argsort(descending=True).tolist():
        box = boxes[i].tolist()
        if all(_iou(box, boxes[j].tolist(), offset) <= 0.4 for j in expected):
            expected.append(i)
    assert keep.tolist() == expected
    assert 1 < len(expected) < 60
    torch.testing.assert_close(dets, torch.cat([boxes, scores[:, None]], 1)[keep])


def test_nms_offset_and_empty() -> None:
    # One pixel apart: the legacy measure (+1) makes these overlap by 10 / 190 of their union.
    boxes = torch.tensor([[0.0, 0, 9, 9], [9, 0, 18, 9]])
    scores = torch.tensor([0.9, 0.8])
    assert len(ops.nms(boxes, scores, 0.04, offset=0)[1]) == 2
    assert len(ops.nms(boxes, scores, 0.04, offset=1)[1]) == 1
    assert len(ops.nms(torch.zeros(0, 4), torch.zeros(0), 0.5)[1]) == 0


def test_batched_nms_keeps_classes_apart() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 9.5]])
    scores, classes = torch.tensor([0.5, 0.9, 0.8]), torch.tensor([0, 0, 1])
    _, keep = ops.batched_nms(boxes, scores, classes, {'type': 'nms', 'iou_threshold': 0.5})
    assert keep.tolist() == [1, 2]


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
def test_soft_nms_equals_loop(method: str, offset: int) -> None:
    torch.manual_seed(1)
    boxes, scores = _boxes(40), torch.rand(40)
    dets, keep = ops.soft_nms(boxes, scores, 0.3, 0.5, 0.1, method, offset)
    left = dict(enumerate(scores.tolist()))
    expected = []
    while left:
        best = max(left, key=lambda i: left[i])
        expected.append((best, left.pop(best)))
        for i in list(left):
            iou = _iou(boxes[best].tolist(), boxes[i].tolist(), offset)
            if method == 'gaussian':
                left[i] *= float(np.exp(-(iou**2) / 0.5))
            elif iou >= 0.3:
                left[i] *= 0.0 if method == 'naive' else 1 - iou
            if left[i] < 0.1:
                del left[i]
    assert keep.tolist() == [i for i, _ in expected]
    torch.testing.assert_close(dets[:, 4], torch.tensor([score for _, score in expected]))
    assert torch.equal(dets[:, :4], boxes[keep])


def _rois() -> Tensor:
    boxes = torch.tensor([[1.0, 2, 20, 17], [-3, -2, 9, 30], [5.3, 4.1, 6.2, 5.9], [0, 0, 31, 23]])
    return torch.cat([torch.tensor([[0.0], [1], [1], [0]]), boxes], dim=1)


@pytest.mark.parametrize('sampling_ratio', [0, 2])
@pytest.mark.parametrize('aligned', [True, False])
def test_roi_align_equals_torchvision_autograd(aligned: bool, sampling_ratio: int) -> None:
    torch.manual_seed(0)
    ours = torch.randn(2, 3, 12, 16, dtype=torch.float64, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    rois = _rois().double()
    out = ops.roi_align(ours, rois, (5, 4), 0.5, sampling_ratio, 'avg', aligned)
    expected = torchvision.ops.roi_align(theirs, rois, (5, 4), 0.5, sampling_ratio, aligned)
    torch.testing.assert_close(out, expected)
    weight = torch.randn_like(out)
    (out * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_roi_align_of_a_ramp_is_the_bin_centre() -> None:
    ramp = torch.arange(32.0).expand(1, 1, 24, 32).contiguous()  # value x at pixel x
    layer = ops.RoIAlign((2, 4), spatial_scale=0.5, sampling_ratio=2)
    out = layer(ramp, torch.tensor([[0.0, 8, 8, 40, 24]]))  # x from 4 to 20 on the map
    # Pixel x covers [x, x + 1], so that its value stands at x + 0.5.
    centres = torch.tensor([6.0, 10, 14, 18]) - 0.5
    torch.testing.assert_close(out[0, 0], centres.expand(2, 4))


def test_roi_align_in_half_precision() -> None:
    torch.manual_seed(0)
    feature = torch.randn(2, 3, 12, 16).bfloat16().requires_grad_()
    exact = feature.detach().float().requires_grad_()
    rois = _rois().bfloat16()
    out = ops.roi_align(feature, rois, (5, 4), 0.5, 2)
    expected = torchvision.ops.roi_align(exact, rois.float(), (5, 4), 0.5, 2, aligned=True)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, expected.bfloat16())
    out.sum().backward()
    expected.sum().backward()
    assert feature.grad is not None
    assert exact.grad is not None
    torch.testing.assert_close(feature.grad, exact.grad.bfloat16())


def test_roi_align_refuses_max_pooling() -> None:
    with pytest.raises(NotImplementedError, match=r"roi_align.*'max'.*compiled mmcv"):
        ops.roi_align(torch.randn(2, 3, 12, 16), _rois(), (5, 4), 0.5, 2, 'max')


def test_roi_pool_equals_loop() -> None:
    torch.manual_seed(0)
    feature = torch.randn(2, 3, 12, 16, dtype=torch.float64, requires_grad=True)
    rois = torch.cat([_rois(), torch.tensor([[0.0, 50, 50, 60, 60], [1, 9, 9, 2, 2]])])
    height, width, scale = 3, 4, 0.5
    out = ops.roi_pool(feature, rois.double(), (height, width), scale)
    expected = torch.zeros_like(out)
    for k, (image, x1, y1, x2, y2) in enumerate(rois.tolist()):
        x1, y1, w, h = x1 * scale, y1 * scale, (x2 + 1 - x1) * scale, (y2 + 1 - y1) * scale
        if w <= 0 or h <= 0:
            continue
        for py in range(height):
            for px in range(width):
                top, bottom = y1 + py * h / height, y1 + (py + 1) * h / height
                left, right = x1 + px * w / width, x1 + (px + 1) * w / width
                # A pixel belongs to a bin that reaches into it.
                pixels = [
                    feature[int(image), :, y, x]
                    for y in range(12)
                    for x in range(16)
                    if y < bottom and y + 1 > top and x < right and x + 1 > left
                ]
                if pixels:
                    expected[k, :, py, px] = torch.stack(pixels).amax(0)
    torch.testing.assert_close(out, expected)
    assert (expected[-2:] == 0).all()
    weight = torch.randn_like(out)
    (grad,) = torch.autograd.grad((out * weight).sum(), feature)
    (expected_grad,) = torch.autograd.grad((expected * weight).sum(), feature)
    torch.testing.assert_close(grad, expected_grad)


@pytest.mark.parametrize('gamma', [0.0, 0.5, 2.0])
def test_sigmoid_focal_loss_equals_torchvision(gamma: float) -> None:
    torch.manual_seed(0)
    logits = (torch.randn(7, 4, dtype=torch.float64) * 3).requires_grad_()
    target = torch.tensor([0, 1, 2, 3, 4, 4, 0])  # 4: background
    one_hot = F.one_hot(target, 5)[:, :4].double()
    expected = torchvision.ops.sigmoid_focal_loss(logits, one_hot, 0.25, gamma, 'none')
    out = ops.sigmoid_focal_loss(logits, target, gamma, 0.25, None, 'none')
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)
    weight = torch.randn_like(out)
    (grad,) = torch.autograd.grad((out * weight).sum(), logits)
    (expected_grad,) = torch.autograd.grad((expected * weight).sum(), logits)
    torch.testing.assert_close(grad, expected_grad, rtol=1e-5, atol=1e-6)


def test_sigmoid_focal_loss_weights_and_extreme_logits() -> None:
    logits = torch.tensor([[300.0, -300.0]], requires_grad=True)
    weight = torch.tensor([1.0, 3.0])
    out = ops.sigmoid_focal_loss(logits, torch.tensor([1]), 2.0, 0.25, weight, 'none')
    # Both logits are wrong by 300: 0.75 * 300 and 0.25 * 300, times the target's weight 3.
    torch.testing.assert_close(out, torch.tensor([[675.0, 225.0]]))
    out.sum().backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[2.25, -0.75]]))
    with pytest.raises(ValueError, match='2 class weights and targets up to 2'):
        ops.sigmoid_focal_loss(logits, torch.tensor([2]), 2.0, 0.25, weight, 'none')


def _by_grid_sample(
    x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor | None, groups: int
) -> Tensor:
    """Deformable convolution, stride 2, padding 1, as a plain sum over kernel taps."""
    batch, _, height, width = x.shape
    out_h, out_w = offset.shape[-2:]
    deform_groups = offset.shape[1] // 18
    offset = offset.view(batch, deform_groups, 9, 2, out_h, out_w)
    mask = mask.view(batch, deform_groups, 9, out_h, out_w)
    rows = torch.arange(out_h, dtype=x.dtype)[:, None] * 2 - 1
    columns = torch.arange(out_w, dtype=x.dtype)[None] * 2 - 1
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


def _conv_inputs(deform_groups: int, groups: int) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {
        'x': torch.randn(2, 4, 7, 9, **_LEAF),
        'offset': torch.randn(2, deform_groups * 18, 4, 5, **_LEAF),
        'mask': torch.rand(2, deform_groups * 9, 4, 5, **_LEAF),
        'weight': torch.randn(6, 4 // groups, 3, 3, **_LEAF),
        'bias': torch.randn(6, **_LEAF),
    }


@pytest.mark.parametrize('with_bias', [True, False])
@pytest.mark.parametrize(('groups', 'deform_groups'), [(1, 1), (2, 2)])
def test_modulated_deform_conv_equals_grid_sample(
    groups: int, deform_groups: int, with_bias: bool
) -> None:
    inputs = _conv_inputs(deform_groups, groups)
    if not with_bias:
        del inputs['bias']
    x, offset, mask, weight = (inputs[k] for k in ('x', 'offset', 'mask', 'weight'))
    bias = inputs.get('bias')
    out = ops.modulated_deform_conv2d(x, offset, mask, weight, bias, 2, 1, 1, groups, deform_groups)
    expected = _by_grid_sample(x, offset, mask, weight, bias, groups)
    _assert_same_with_grads(out, expected, list(inputs.values()))


@pytest.mark.parametrize(('groups', 'deform_groups'), [(1, 1), (2, 2)])
def test_deform_conv_equals_grid_sample(groups: int, deform_groups: int) -> None:
    inputs = _conv_inputs(deform_groups, groups)
    x, offset, weight = inputs['x'], inputs['offset'], inputs['weight']
    out = ops.deform_conv2d(x, offset, weight, 2, 1, 1, groups, deform_groups)
    ones = torch.ones_like(inputs['mask'])
    expected = _by_grid_sample(x, offset, ones, weight, None, groups)
    _assert_same_with_grads(out, expected, [x, offset, weight])


def test_ms_deform_attn_equals_mmcv_reference() -> None:
    from mmcv.ops.multi_scale_deform_attn import (
        MultiScaleDeformableAttnFunction,
        multi_scale_deformable_attn_pytorch,
    )

    torch.manual_seed(0)
    shapes = torch.tensor([[6, 4], [3, 2]])
    value = torch.randn(2, 30, 2, 4, **_LEAF)
    locations = (torch.rand(2, 5, 2, 2, 3, 2, dtype=torch.float64) * 1.4 - 0.2).requires_grad_()
    weights = torch.rand(2, 5, 2, 2, 3, **_LEAF)
    starts = torch.tensor([0, 24])
    out = MultiScaleDeformableAttnFunction.apply(value, shapes, starts, locations, weights, 64)
    expected = multi_scale_deformable_attn_pytorch(value, shapes, locations, weights)
    _assert_same_with_grads(out, expected, [value, locations, weights])


def _assert_same_with_grads(out: Tensor, expected: Tensor, inputs: list[Tensor]) -> None:
    torch.testing.assert_close(out, expected)
    weight = torch.randn_like(out)
    grads = torch.autograd.grad((out * weight).sum(), inputs)
    expected_grads = torch.autograd.grad((expected * weight).sum(), inputs)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(grad, expected_grad)


def test_missing_op_names_itself_and_the_remedy() -> None:
    with pytest.raises(NotImplementedError, match=r"'nms_rotated'.*mim install mmcv"):
        ops.nms_rotated(torch.rand(2, 5), torch.rand(2), 0.5)


def test_environment_report_works() -> None:
    assert 'vit_dense' in ops.get_compiler_version()
    assert 'vit_dense' in ops.get_compiling_cuda_version()
