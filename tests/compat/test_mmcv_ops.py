"""The stand-in for `mmcv._ext` as a whole: what imports, what is refused, what autocast does."""

import importlib
from collections.abc import Callable

import pytest
import torch
from devices import DEVICES
from mmcv_cases import random_boxes
from torch import Tensor

import vit_dense  # noqa: F401  (puts the stand-in in place before mmcv is imported)

pytest.importorskip('mmcv')

from mmcv import ops


@pytest.mark.parametrize('name', ['mmseg.models', 'mmdet.models'])
def test_model_packages_import(name: str) -> None:
    assert importlib.import_module(name)


def test_missing_op_names_itself_and_the_remedy() -> None:
    with pytest.raises(NotImplementedError, match=r"'nms_rotated'.*mim install mmcv"):
        ops.nms_rotated(torch.rand(2, 5), torch.rand(2), 0.5)


def test_environment_report_works() -> None:
    assert 'vit_dense' in ops.get_compiler_version()
    assert 'vit_dense' in ops.get_compiling_cuda_version()


def _roi_align(inputs: list[Tensor]) -> Tensor:
    return ops.roi_align(inputs[0], inputs[1], (3, 3), 0.5, 2)


def _roi_pool(inputs: list[Tensor]) -> Tensor:
    return ops.roi_pool(inputs[0], inputs[1], (3, 3), 0.5)


def _deform_conv(inputs: list[Tensor]) -> Tensor:
    return ops.deform_conv2d(inputs[0], inputs[2], inputs[4], 1, 1)


def _modulated_deform_conv(inputs: list[Tensor]) -> Tensor:
    return ops.modulated_deform_conv2d(inputs[0], inputs[2], inputs[3], inputs[4], None, 1, 1)


def _focal_loss(inputs: list[Tensor]) -> Tensor:
    logits = inputs[0].flatten(2).transpose(1, 2).flatten(0, 1)
    target = torch.arange(len(logits), device=logits.device) % 5
    return ops.sigmoid_focal_loss(logits, target, 2.0, 0.25, None, 'none')


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize(
    'op', [_roi_align, _roi_pool, _deform_conv, _modulated_deform_conv, _focal_loss]
)
def test_autocast_does_not_lower_the_precision_of_float32_inputs(
    op: Callable[[list[Tensor]], Tensor], device: str
) -> None:
    """Forward and, as some loops do it, backward inside of the context."""
    rois = torch.cat([torch.tensor([[0.0], [1], [1]]), random_boxes(3, 6)], dim=1)
    shapes = [(2, 4, 9, 9), None, (2, 18, 9, 9), (2, 9, 9, 9), (4, 4, 3, 3)]
    inputs = [rois if shape is None else torch.randn(shape) for shape in shapes]
    inputs = [x.to(device) for x in inputs]
    for i in (0, 2, 3, 4):
        inputs[i].requires_grad_()
    results = []
    for enabled in (False, True):
        with torch.autocast(device, torch.bfloat16, enabled=enabled):
            out = op(inputs)
            weight = torch.linspace(-1, 1, out.numel(), device=device).view_as(out)
            leaves = [inputs[0], inputs[2], inputs[3], inputs[4]]
            grads = torch.autograd.grad((out * weight).sum(), leaves, allow_unused=True)
        results.append([out, *(grad for grad in grads if grad is not None)])
    assert len(results[0]) > 1
    for plain, under_autocast in zip(*results, strict=True):
        assert under_autocast.dtype == torch.float32
        torch.testing.assert_close(under_autocast, plain)
