"""mmcv's sigmoid focal loss over our op, against its definition and other implementations."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from devices import DEVICES
from mmcv_cases import DTYPES, HALVES, assert_same_with_grads
from torch import Tensor

import vit_dense  # noqa: F401  (puts the stand-in in place before mmcv is imported)

pytest.importorskip('mmcv')

from mmcv import ops

TARGET = torch.tensor([0, 1, 2, 3, 4, 4, 0])  # 4: background


def _logits(dtype: torch.dtype, device: str = 'cpu') -> Tensor:
    return (torch.randn(7, 4) * 3).to(device, dtype).requires_grad_()


def _definition(logits: Tensor, alpha: float, gamma: float) -> Tensor:
    """Equation 5 of the paper, one logit at a time."""
    losses = []
    for row, target in zip(logits, TARGET.tolist(), strict=True):
        for label, logit in enumerate(row):
            p = 1 / (1 + torch.exp(-logit))
            p_t, alpha_t = (p, alpha) if label == target else (1 - p, 1 - alpha)
            losses.append(-alpha_t * (1 - p_t) ** gamma * torch.log(p_t))
    return torch.stack(losses).view_as(logits)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('gamma', [0.0, 0.5, 2.0])
def test_equals_definition_in_double_precision(gamma: float, device: str) -> None:
    logits = _logits(torch.float64, device)
    out = ops.sigmoid_focal_loss(logits, TARGET.to(device), gamma, 0.3, None, 'none')
    assert_same_with_grads(out, _definition(logits, 0.3, gamma), [logits])


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('reduction', ['none', 'mean', 'sum'])
def test_equals_torchvision(reduction: str, device: str) -> None:
    logits, target = _logits(torch.float32, device), TARGET.to(device)
    one_hot = F.one_hot(target, 5)[:, :4].float()
    expected = torchvision.ops.sigmoid_focal_loss(logits, one_hot, 0.25, 2.0, 'none')
    if reduction != 'none':
        # mmcv's mean divides by the rows, not by the logits.
        expected = expected.sum() / (len(logits) if reduction == 'mean' else 1)
    module = ops.SigmoidFocalLoss(2.0, 0.25, reduction=reduction)
    assert_same_with_grads(module(logits, target), expected, [logits])


@pytest.mark.parametrize('weighted', [True, False])
def test_equals_the_path_that_mmdet_takes_on_cpu(weighted: bool) -> None:
    """mmdet's `FocalLoss` calls the op on CUDA only, and has PyTorch code of its own for CPUs."""
    losses = pytest.importorskip('mmdet.models.losses.focal_loss')
    logits = _logits(torch.float32)
    weight = torch.rand(7) if weighted else None
    out = losses.sigmoid_focal_loss(logits, TARGET, weight, avg_factor=3.0)
    expected = losses.FocalLoss()(logits, TARGET, weight, avg_factor=3.0)
    assert_same_with_grads(out, expected, [logits])


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', HALVES)
def test_half_precision_rounds_inputs_and_outputs_only(dtype: torch.dtype, device: str) -> None:
    logits = _logits(dtype, device)
    exact = logits.detach().float().requires_grad_()
    out, expected = (
        ops.sigmoid_focal_loss(x, TARGET.to(device), 2.0, 0.25, None, 'none')
        for x in (logits, exact)
    )
    assert torch.equal(out, expected.to(dtype))
    (grad,) = torch.autograd.grad(out.sum(), logits)
    (expected_grad,) = torch.autograd.grad(expected.sum(), exact)
    assert torch.equal(grad, expected_grad.to(dtype))


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', DTYPES)
def test_no_rows(dtype: torch.dtype, device: str) -> None:
    logits = torch.zeros(0, 4, dtype=dtype, device=device, requires_grad=True)
    target = torch.zeros(0, dtype=torch.long, device=device)
    out = ops.sigmoid_focal_loss(logits, target, 2.0, 0.25, None, 'sum')
    out.backward()
    assert out.item() == 0
    assert logits.grad is not None
    assert logits.grad.shape == (0, 4)


def test_weights_and_extreme_logits() -> None:
    logits = torch.tensor([[300.0, -300.0]], requires_grad=True)
    weight = torch.tensor([1.0, 3.0])
    out = ops.sigmoid_focal_loss(logits, torch.tensor([1]), 2.0, 0.25, weight, 'none')
    # Both logits are wrong by 300: 0.75 * 300 and 0.25 * 300, times the target's weight 3.
    torch.testing.assert_close(out, torch.tensor([[675.0, 225.0]]))
    out.sum().backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[2.25, -0.75]]))
    with pytest.raises(ValueError, match='2 class weights and targets up to 2'):
        ops.sigmoid_focal_loss(logits, torch.tensor([2]), 2.0, 0.25, weight, 'none')
