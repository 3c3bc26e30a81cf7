"""Weighted sums of rows of a table: the CPU backend of deformable attention."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .exporting import exported_sampling


def weighted_gather(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Compute `out[i] = sum over k of weights[i, k] * table[rows[i, k]]`.

    Args:
        table: (R, C).
        rows: (N, K), integers in [0, R).
        weights: (N, K).

    Returns:
        (N, C).
    """
    trained = torch.is_grad_enabled() and (table.requires_grad or weights.requires_grad)
    # compilers and tracers know the operator, but not a custom autograd function
    if not trained or torch.compiler.is_compiling():
        return _sums(table, rows, weights)
    return _WeightedGather.apply(table, rows, weights)


def _sums(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    if exported_sampling() == 'gather':  # ONNX has no embedding_bag
        return (table[rows] * weights[..., None]).sum(1)
    return F.embedding_bag(rows, table, per_sample_weights=weights, mode='sum')


class _WeightedGather(torch.autograd.Function):
    """`embedding_bag` with a faster backward pass.

    The gradient of a table's row is a weighted sum, too: of the output gradients of all queries
    that used the row, which are found by sorting the row numbers.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(table, rows, weights)
        return _sums(table, rows, weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        table, rows, weights = ctx.saved_tensors
        grad = grad.contiguous()
        grad_table = grad_weights = None
        if ctx.needs_input_grad[0]:
            grad_table = _gather_by_row(grad, rows, weights, len(table))
        if ctx.needs_input_grad[2]:
            with torch.enable_grad():
                weights = weights.detach().requires_grad_()
                sums = _sums(table.detach(), rows, weights)
            (grad_weights,) = torch.autograd.grad(sums, weights, grad)
        return grad_table, None, grad_weights


def _gather_by_row(grad: Tensor, rows: Tensor, weights: Tensor, count: int) -> Tensor:
    """Sum the gradients of each row of the table: (N, C), (N, K), (N, K) -> (count, C)."""
    _, order = rows.flatten().sort()
    users = torch.bincount(rows.flatten(), minlength=count)
    return F.embedding_bag(
        order // rows.shape[1],
        grad,
        users.cumsum(0) - users,  # where the users of each row start
        per_sample_weights=weights.flatten().index_select(0, order),
        mode='sum',
    )
