"""Weighted sums of a table's rows: what deformable attention comes down to on CPUs."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def weighted_row_sums(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Row i of the result is the sum over k of `weights[i, k] * table[rows[i, k]]`.

    Args:
        table: (R, C).
        rows: (N, K), integers in 0..R-1.
        weights: (N, K).

    Returns:
        (N, C).
    """
    trained = torch.is_grad_enabled() and (table.requires_grad or weights.requires_grad)
    # compilers and tracers know the operator, and not what is in a class of ours
    if not trained or torch.compiler.is_compiling():
        return _sums(table, rows, weights)
    return _WeightedRowSums.apply(table, rows, weights)


def _sums(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    return F.embedding_bag(rows, table, per_sample_weights=weights, mode='sum')


class _WeightedRowSums(torch.autograd.Function):
    """`embedding_bag` with a backward pass that is faster, by the same operator.

    The table's gradient is a weighted row sum, too: of the result's gradient, over all the places
    that a row was taken to. Sorting 32-bit row numbers finds them.
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
    """(N, C), (N, K), (N, K) -> (count, C): what each row of the table gets back."""
    _, order = rows.flatten().sort()
    users = torch.bincount(rows.flatten(), minlength=count)
    return F.embedding_bag(
        order // rows.shape[1],
        grad,
        users.cumsum(0) - users,  # where each row's users start
        per_sample_weights=weights.flatten().index_select(0, order),
        mode='sum',
    )
