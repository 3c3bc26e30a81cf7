"""mmcv's `RoIAlign` and `RoIPool` over our ops, against loops and torchvision's autograd."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torchvision
from devices import DEVICES
from mmcv_cases import DTYPES, HALVES, assert_same_with_grads
from torch import Tensor

import vit_dense  # noqa: F401  (puts the stand-in in place before mmcv is imported)

pytest.importorskip('mmcv')

from mmcv import ops

Op = Callable[[Tensor, Tensor], Tensor]


def _rois() -> Tensor:
    """Inside, over two edges, smaller than a pixel of the map, the whole image."""
    boxes = torch.tensor([[1.0, 2, 20, 17], [-3, -2, 9, 30], [5.3, 4.1, 6.2, 5.9], [0, 0, 31, 23]])
    return torch.cat([torch.tensor([[0.0], [1], [1], [0]]), boxes], dim=1)


def _feature(dtype: torch.dtype, device: str = 'cpu') -> Tensor:
    return torch.randn(2, 3, 12, 16).to(device, dtype).requires_grad_()


def _bilinear(feature: Tensor, y: float, x: float) -> Tensor:
    """Zero from one pixel outside on; in between the border's own value."""
    height, width = feature.shape[-2:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return feature.new_zeros(len(feature))
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    value = feature.new_zeros(len(feature))
    for i in range(math.floor(y), min(math.floor(y) + 2, height)):
        for j in range(math.floor(x), min(math.floor(x) + 2, width)):
            value = value + (1 - abs(y - i)) * (1 - abs(x - j)) * feature[:, i, j]
    return value


def _roi_align_loop(
    feature: Tensor, rois: Tensor, scale: float, ratio: int, shift: float
) -> Tensor:
    """Averages of samples at the centres of a bin's cells (Mask R-CNN, section 3)."""
    out_h, out_w = 5, 4
    rows = []
    for image, *box in rois.tolist():
        x1, y1, x2, y2 = (c * scale - shift for c in box)
        w, h = (x2 - x1, y2 - y1) if shift else (max(x2 - x1, 1), max(y2 - y1, 1))
        for py in range(out_h):
            for px in range(out_w):
                ny = ratio or math.ceil(h / out_h)
                nx = ratio or math.ceil(w / out_w)
                samples = [
                    _bilinear(
                        feature[int(image)],
                        y1 + (py + (iy + 0.5) / ny) * h / out_h,
                        x1 + (px + (ix + 0.5) / nx) * w / out_w,
                    )
                    for iy in range(ny)
                    for ix in range(nx)
                ]
                rows.append(torch.stack(samples).mean(0))
    return torch.stack(rows).view(len(rois), out_h, out_w, -1).permute(0, 3, 1, 2)


@pytest.mark.parametrize('sampling_ratio', [0, 2])
@pytest.mark.parametrize('aligned', [True, False])
def test_roi_align_equals_loop(aligned: bool, sampling_ratio: int) -> None:
    feature = _feature(torch.float64)
    rois = _rois().double()
    out = ops.roi_align(feature, rois, (5, 4), 0.5, sampling_ratio, 'avg', aligned)
    expected = _roi_align_loop(feature, rois, 0.5, sampling_ratio, 0.5 if aligned else 0.0)
    assert_same_with_grads(out, expected, [feature])


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('sampling_ratio', [0, 2])
@pytest.mark.parametrize('aligned', [True, False])
def test_roi_align_equals_torchvision_autograd(
    aligned: bool, sampling_ratio: int, dtype: torch.dtype, device: str
) -> None:
    feature, rois = _feature(dtype, device), _rois().to(device, dtype)
    out = ops.roi_align(feature, rois, (5, 4), 0.5, sampling_ratio, 'avg', aligned)
    expected = torchvision.ops.roi_align(feature, rois, (5, 4), 0.5, sampling_ratio, aligned)
    assert_same_with_grads(out, expected, [feature])


def test_roi_align_of_a_ramp_is_the_bin_centre() -> None:
    ramp = torch.arange(32.0).expand(1, 1, 24, 32).contiguous()  # value x at pixel x
    layer = ops.RoIAlign((2, 4), spatial_scale=0.5, sampling_ratio=2)
    out = layer(ramp, torch.tensor([[0.0, 8, 8, 40, 24]]))  # x from 4 to 20 on the map
    # Pixel x covers [x, x + 1], so that its value stands at x + 0.5.
    centres = torch.tensor([6.0, 10, 14, 18]) - 0.5
    torch.testing.assert_close(out[0, 0], centres.expand(2, 4))


def _align(feature: Tensor, rois: Tensor) -> Tensor:
    return ops.roi_align(feature, rois, (5, 4), 0.5, 2)


def _pool(feature: Tensor, rois: Tensor) -> Tensor:
    return ops.roi_pool(feature, rois, (3, 4), 0.5)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', HALVES)
@pytest.mark.parametrize('op', [_align, _pool])
def test_half_precision_rounds_inputs_and_outputs_only(
    op: Op, dtype: torch.dtype, device: str
) -> None:
    feature, rois = _feature(dtype, device), _rois().to(device, dtype)
    exact = feature.detach().float().requires_grad_()
    out, expected = op(feature, rois), op(exact, rois.float())
    assert out.dtype == dtype
    assert torch.equal(out, expected.to(dtype))
    weight = torch.randn(out.shape).to(out)
    (grad,) = torch.autograd.grad((out * weight).sum(), feature)
    (expected_grad,) = torch.autograd.grad((expected * weight.float()).sum(), exact)
    assert grad.dtype == dtype
    torch.testing.assert_close(grad, expected_grad.to(dtype))


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('batch', [0, 2])
@pytest.mark.parametrize('op', [_align, _pool])
def test_no_regions(op: Op, batch: int, dtype: torch.dtype, device: str) -> None:
    feature = _feature(dtype, device).detach()[:batch].requires_grad_()
    out = op(feature, torch.zeros(0, 5, dtype=dtype, device=device))
    assert out.shape[:2] == (0, 3)
    assert out.dtype == dtype
    (grad,) = torch.autograd.grad(out.sum(), feature)
    assert torch.equal(grad, torch.zeros_like(feature))


def test_roi_align_refuses_max_pooling() -> None:
    with pytest.raises(NotImplementedError, match=r"roi_align.*'max'.*compiled mmcv"):
        ops.roi_align(torch.randn(2, 3, 12, 16), _rois(), (5, 4), 0.5, 2, 'max')


def _roi_pool_loop(
    feature: Tensor, rois: Tensor, out_size: tuple[int, int], scale: float
) -> Tensor:
    height, width = out_size
    expected = feature.new_zeros(len(rois), feature.shape[1], height, width)
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
                    for y in range(feature.shape[2])
                    for x in range(feature.shape[3])
                    if y < bottom and y + 1 > top and x < right and x + 1 > left
                ]
                if pixels:
                    expected[k, :, py, px] = torch.stack(pixels).amax(0)
    return expected


@pytest.mark.parametrize('device', DEVICES)
def test_roi_pool_equals_loop(device: str) -> None:
    feature = _feature(torch.float64, device)
    # Beside the usual ones: outside of the image, inverted, inverted by less than a pixel.
    others = [[0.0, 50, 50, 60, 60], [1, 9, 9, 2, 2], [1, 9, 2, 7.5, 9]]
    rois = torch.cat([_rois(), torch.tensor(others)])
    rois = rois.to(device, torch.float64)
    out = ops.roi_pool(feature, rois, (3, 4), 0.5)
    expected = _roi_pool_loop(feature, rois, (3, 4), 0.5)
    assert (expected[-3:] == 0).all()
    assert (expected[:-3] != 0).any()
    assert_same_with_grads(out, expected, [feature])


@pytest.mark.parametrize('device', DEVICES)
def test_roi_pool_sums_the_gradients_of_a_shared_pixel_exactly(device: str) -> None:
    # Added up one by one in float16, ones never get beyond 2048.
    feature = torch.zeros(1, 1, 4, 4, device=device, dtype=torch.float16).requires_grad_()
    rois = torch.tensor([[0.0, 0, 0, 3, 3]], device=device).half().expand(3000, 5)
    ops.roi_pool(feature, rois, 1).float().sum().backward()
    assert feature.grad is not None
    # Of equal values the first in reading order is the maximum.
    assert feature.grad.flatten().tolist() == [3000] + [0] * 15


@pytest.mark.parametrize('device', DEVICES)
def test_roi_extractor_of_mmdet_equals_torchvision_level_by_level(device: str) -> None:
    pytest.importorskip('mmdet')
    from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor

    layer = {'type': 'RoIAlign', 'output_size': 3, 'sampling_ratio': 0}
    extractor = SingleRoIExtractor(layer, out_channels=2, featmap_strides=[4, 8, 16])
    features = [
        torch.randn(2, 2, 256 // s, 192 // s, device=device, requires_grad=True) for s in (4, 8, 16)
    ]
    boxes = torch.tensor([[3.0, 5, 60, 70], [10, 20, 100, 220], [7, 7, 30, 9]])
    rois = torch.cat([torch.tensor([[1.0], [0], [1]]), boxes], 1).to(device)
    # sqrt(area) of 61 and 7 px go to stride 4, of 134 to stride 8: mmdet's limit is 112.
    expected = torch.stack(
        [
            torchvision.ops.roi_align(features[i], rois[k, None], 3, 1 / stride, aligned=True)[0]
            for k, (i, stride) in enumerate([(0, 4), (1, 8), (0, 4)])
        ]
    )
    out = extractor(features, rois)
    assert_same_with_grads(out, expected, features[:2])
    (unused,) = torch.autograd.grad(extractor(features, rois).sum(), features[2])
    assert torch.equal(unused, torch.zeros_like(unused))  # no region, yet in the graph
    assert extractor(features, rois[:0]).shape == (0, 2, 3, 3)


def test_mask_targets_of_mmdet_are_crops() -> None:
    pytest.importorskip('mmdet')
    from mmdet.structures.mask import BitmapMasks

    masks = np.zeros((2, 40, 50), dtype=np.uint8)
    masks[0, 10:20, 10:30] = 1
    masks[1, :, 25:] = 1
    boxes = np.array([[10, 10, 30, 20], [15, 0, 35, 40]], dtype=np.float32)
    crops = BitmapMasks(masks, 40, 50).crop_and_resize(boxes, (8, 8), np.array([0, 1]), 'cpu')
    assert crops.masks[0].all()
    assert crops.masks[1].tolist() == [[False] * 4 + [True] * 4] * 8
