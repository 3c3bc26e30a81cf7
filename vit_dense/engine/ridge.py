"""Labels of patches, and ridge regression on their features, for linear probes."""

from collections.abc import Sequence

import torch
from torch import Tensor

VOID = -1  # of pixels that belong to no class
LEAST_KNOWN = 0.5  # share of a patch's pixels
_PENALTIES = torch.logspace(-6, 1, 8, dtype=torch.float64)  # times the variance of a feature
_LEAST_PENALTY = 1e-12  # for constant features


def patch_counts(labels: Tensor, stride: int, grid: Sequence[int], classes: int) -> Tensor:
    """Return the pixels of each class in each patch: labels (H, W) to (h * w, C)."""
    rows, columns = (torch.arange(edge) // stride for edge in labels.shape)
    known = labels != VOID
    pairs = (rows[:, None] * grid[1] + columns)[known] * classes + labels[known]
    return torch.bincount(pairs, minlength=grid[0] * grid[1] * classes).view(-1, classes)


def second_moments(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Return the sum of w z z^T over rows z of features (N, D), 1 and targets (N, C), in float64.

    Ridge regression needs no more of the rows, however many there are.
    """
    rows = torch.cat([x.double(), torch.ones(len(x), 1), y.double()], 1)
    return rows.T @ (rows * weight.double()[:, None])


def fit_ridge(fitted: Tensor, held_out: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Fit all rows with the penalty that predicts held-out rows best from the others.

    Takes the `second_moments` of both; returns a matrix (D, C) and a bias (C,).
    """
    errors = []
    for penalty in _PENALTIES:
        weight, bias = _solve(fitted, classes, penalty)
        residual = torch.cat([-weight, -bias[None], torch.eye(classes)])  # y - x W - b
        errors.append((residual * (held_out @ residual)).sum())
    return _solve(fitted + held_out, classes, _PENALTIES[torch.stack(errors).argmin()])


def _solve(moments: Tensor, classes: int, penalty: Tensor) -> tuple[Tensor, Tensor]:
    width = len(moments) - classes - 1
    mean = moments[width] / moments[width, width]
    covariance = moments / moments[width, width] - mean[:, None] * mean
    inputs, targets = covariance[:width, :width], covariance[:width, width + 1 :]
    ridge = (penalty * inputs.diagonal()).clamp(min=_LEAST_PENALTY)  # as if standardised
    weight = torch.linalg.solve(inputs + ridge.diag(), targets)
    return weight, mean[width + 1 :] - mean[:width] @ weight
