"""The cases of `mmcv_ops.py`: each op of mmcv as detectors call it, and on empty inputs."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from mmcv import ops
from torch import Tensor

LEVELS = [(64, 64), (32, 32), (16, 16), (8, 8)]  # of a 512 px image
CLASSES = 80


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        name: Of the op, and what is empty.
        make: Draws the inputs, float32 on CPU.
        call: Runs mmcv's own Python function on them.
        differentiable: Indexes of the inputs that get gradients.
    """

    name: str
    make: Callable[[], list[Tensor]]
    call: Callable[..., list[Tensor]]
    differentiable: tuple[int, ...] = ()


def cases() -> list[Case]:
    """Return all cases."""
    full = [
        Case('nms', lambda: _boxes(2000), _nms),
        Case('batched_nms', lambda: _boxes(2000), _batched_nms),
        Case('soft_nms, linear', lambda: _boxes(1000), _soft_nms('linear')),
        Case('soft_nms, gaussian', lambda: _boxes(1000), _soft_nms('gaussian')),
        Case('nms_match', lambda: _boxes(1000), _nms_match),
        Case('roi_align', lambda: _regions(2, 256), _roi_align, (0,)),
        Case('roi_pool', lambda: _regions(2, 256), _roi_pool, (0,)),
        Case('sigmoid_focal_loss', lambda: _logits(10000), _focal_loss, (0,)),
        Case('deform_conv', _convolution, _deform_conv, (0, 1, 3)),
        Case('modulated_deform_conv', _convolution, _modulated_deform_conv, (0, 1, 2, 3, 4)),
        Case('ms_deform_attn', lambda: _attention(2, 900), _attend, (0, 1, 2)),
    ]
    empty = [
        Case('nms, 0 boxes', lambda: _boxes(0), _nms),
        Case('soft_nms, 0 boxes', lambda: _boxes(0), _soft_nms('linear')),
        Case('nms_match, 0 boxes', lambda: _boxes(0), _nms_match),
        Case('roi_align, 0 rois', lambda: _regions(2, 0), _roi_align, (0,)),
        Case('roi_align, 0 images', lambda: _regions(0, 0), _roi_align, (0,)),
        Case('roi_pool, 0 rois', lambda: _regions(2, 0), _roi_pool, (0,)),
        Case('sigmoid_focal_loss, 0 rows', lambda: _logits(0), _focal_loss, (0,)),
        Case('ms_deform_attn, 0 queries', lambda: _attention(2, 0), _attend, (0, 1, 2)),
    ]
    return full + empty


def _boxes(count: int) -> list[Tensor]:
    """Draw boxes of 10 to 160 px in 800 px, scores without ties, labels."""
    corner = torch.rand(count, 2) * 800
    boxes = torch.cat([corner, corner + 10 + torch.rand(count, 2) * 150], dim=1)
    return [boxes, (torch.randperm(count) + 1) / (count + 1), torch.arange(count) % 5]


def _by_index(dets: Tensor, keep: Tensor) -> list[Tensor]:
    """Sort boxes by index: those with scores equal up to rounding come in either order."""
    keep, order = keep.sort()
    return [keep, dets[order, :4], dets[order, 4]]


def _nms(boxes: Tensor, scores: Tensor, _: Tensor) -> list[Tensor]:
    return _by_index(*ops.nms(boxes, scores, 0.5))


def _batched_nms(boxes: Tensor, scores: Tensor, labels: Tensor) -> list[Tensor]:
    config = {'type': 'nms', 'iou_threshold': 0.5}
    return _by_index(*ops.batched_nms(boxes, scores, labels, config))


def _soft_nms(method: str) -> Callable[..., list[Tensor]]:
    def call(boxes: Tensor, scores: Tensor, _: Tensor) -> list[Tensor]:
        return _by_index(*ops.soft_nms(boxes, scores, 0.3, 0.5, 1e-3, method))

    return call


def _nms_match(boxes: Tensor, scores: Tensor, _: Tensor) -> list[Tensor]:
    groups = ops.nms_match(torch.cat([boxes, scores[:, None]], dim=1), 0.5)
    sizes = torch.tensor([len(group) for group in groups])
    return [sizes, torch.cat([sizes.new_empty(0, device=boxes.device), *groups])]


def _regions(images: int, count: int) -> list[Tensor]:
    """Draw a map of stride 8 and regions of 20 to 320 px."""
    corner = torch.rand(count, 2) * torch.tensor([700.0, 480.0])
    image = torch.randint(0, max(images, 1), (count, 1)).float()
    rois = torch.cat([image, corner, corner + 20 + torch.rand(count, 2) * 300], dim=1)
    return [torch.randn(images, 128, 100, 128), rois]


def _roi_align(feature: Tensor, rois: Tensor) -> list[Tensor]:
    return [ops.roi_align(feature, rois, 7, 1 / 8, 0, 'avg', True)]


def _roi_pool(feature: Tensor, rois: Tensor) -> list[Tensor]:
    return [ops.roi_pool(feature, rois, 7, 1 / 8)]


def _logits(count: int) -> list[Tensor]:
    return [torch.randn(count, CLASSES) * 3, torch.randint(0, CLASSES + 1, (count,))]


def _focal_loss(logits: Tensor, target: Tensor) -> list[Tensor]:
    return [ops.sigmoid_focal_loss(logits, target, 2.0, 0.25, None, 'none')]


def _convolution() -> list[Tensor]:
    """Draw input, offsets, mask, weight and bias of a 3x3 convolution of 64 channels."""
    return [
        torch.randn(2, 64, 48, 64),
        torch.randn(2, 18, 48, 64) * 2,
        torch.rand(2, 9, 48, 64),
        torch.randn(64, 64, 3, 3) / 24,
        torch.randn(64),
    ]


def _deform_conv(x: Tensor, offset: Tensor, _: Tensor, weight: Tensor, __: Tensor) -> list[Tensor]:
    return [ops.deform_conv2d(x, offset, weight, 1, 1)]


def _modulated_deform_conv(*inputs: Tensor) -> list[Tensor]:
    return [ops.modulated_deform_conv2d(*inputs, 1, 1)]


def _attention(images: int, queries: int) -> list[Tensor]:
    """Draw values of eight heads, locations (some outside the maps), weights."""
    samples = (images, queries, 8, len(LEVELS), 4)
    tokens = sum(h * w for h, w in LEVELS)
    weights = torch.rand(samples).flatten(3).softmax(-1).view(samples)
    return [torch.randn(images, tokens, 8, 32), torch.rand(*samples, 2) * 1.2 - 0.1, weights]


def _attend(value: Tensor, locations: Tensor, weights: Tensor) -> list[Tensor]:
    # mmcv.ops does not export it
    module = importlib.import_module('mmcv.ops.multi_scale_deform_attn')
    shapes = torch.tensor(LEVELS, device=value.device)
    starts = torch.cat([shapes.new_zeros(1), shapes.prod(1).cumsum(0)[:-1]])
    function = module.MultiScaleDeformableAttnFunction
    return [function.apply(value, shapes, starts, locations, weights, 64)]
