"""`sigmoid_focal_loss_*` of `mmcv._ext` (Lin et al., 2017, equation 5), in plain PyTorch.

With `p = sigmoid(x)` and `q = 1 - p` the loss is `-alpha q^gamma log p` for the target class and
`-(1 - alpha) p^gamma log q` for every other. mmcv cuts the logarithms off at the smallest float;
here they are exact, so values differ where a logit lies beyond +-87.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ['sigmoid_focal_loss_backward', 'sigmoid_focal_loss_forward']


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write the loss of every logit to `output`.

    Args:
        input: `(N, C)` logits.
        target: `(N,)` classes; `C` marks the background.
        weight: `(C,)` class weights, or empty for none.
        output: `(N, C)`, written in place.
        gamma: Focusing exponent.
        alpha: Weight of the target class against the others.
    """
    x = input.to(torch.promote_types(input.dtype, torch.float32))
    of_target = -alpha * x.neg().sigmoid().pow(gamma) * F.logsigmoid(x)
    of_others = -(1 - alpha) * x.sigmoid().pow(gamma) * F.logsigmoid(-x)
    loss = torch.where(_is_target(input, target), of_target, of_others)
    output.copy_(_weighted(loss, target, weight))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Write the derivative of every loss by its logit to `grad_input`; arguments as above."""
    x = input.to(torch.promote_types(input.dtype, torch.float32))
    p, q = x.sigmoid(), x.neg().sigmoid()
    of_target = -alpha * q.pow(gamma) * (q - gamma * p * F.logsigmoid(x))
    of_others = -(1 - alpha) * p.pow(gamma) * (gamma * q * F.logsigmoid(-x) - p)
    grad = torch.where(_is_target(input, target), of_target, of_others)
    grad_input.copy_(_weighted(grad, target, weight))


def _is_target(input: Tensor, target: Tensor) -> Tensor:
    return target[:, None] == torch.arange(input.shape[1], device=input.device)


def _weighted(loss: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    if weight.numel() == 0:
        return loss
    if bool((target >= len(weight)).any()):
        raise ValueError(
            f'sigmoid_focal_loss: got {len(weight)} class weights and targets up to '
            f'{int(target.max())}; the background class has no weight. Weight the loss outside '
            f'the op instead.'
        )
    return loss * weight.to(loss)[target][:, None]
