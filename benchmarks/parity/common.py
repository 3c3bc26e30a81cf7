"""Parts shared by the comparisons: stubs of missing packages, differences and the exit status.

The module needs torch only, so that it also runs with old libraries of other authors.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

LIMIT = 1e-4


def stub_module(name: str, path: Path | None = None, **content: Any) -> types.ModuleType:
    """Put a module into `sys.modules` in place of a package that is not installed.

    Args:
        name: Its dotted name.
        path: Folder in which its submodules are found, if any.
        content: What it holds.
    """
    module = types.ModuleType(name)
    module.__path__ = [str(path)] if path else []
    module.__dict__.update(content)
    sys.modules[name] = module
    return module


class PlainSampling:
    """The interface of the compiled op over a function in plain PyTorch."""

    def __init__(self, sample: Any) -> None:
        self.sample = sample

    def apply(
        self, value: Tensor, shapes: Tensor, starts: Tensor, points: Tensor, weights: Tensor, _: int
    ) -> Tensor:
        """Sample `value` at `points`."""
        return self.sample(value, [(int(h), int(w)) for h, w in shapes], points, weights)


def use_plain_sampling(checkout: Path) -> None:
    """Run a release's deformable attention by its own PyTorch function, without the compiled op."""
    stub_module('MultiScaleDeformableAttention')
    stub_module('ops', checkout / 'detection' / 'ops')
    attention = importlib.import_module('ops.modules.ms_deform_attn')
    functions = importlib.import_module('ops.functions.ms_deform_attn_func')
    attention.MSDeformAttnFunction = PlainSampling(functions.ms_deform_attn_core_pytorch)


def largest_difference(ours: Any, theirs: Any) -> float:
    """Return the largest absolute difference of tensors, or of nested lists of tensors.

    It is infinite where shapes differ.
    """
    if isinstance(ours, Tensor):
        same = ours.shape == theirs.shape
        return (ours - theirs).abs().max().item() if same else float('inf')
    return max(largest_difference(a, b) for a, b in zip(ours, theirs, strict=True))


def largest_value(outputs: Any) -> float:
    """Return the largest absolute value of tensors, or of nested lists of tensors."""
    if isinstance(outputs, Tensor):
        return outputs.abs().max().item()
    return max(map(largest_value, outputs))


def conclude(differences: Iterable[float]) -> int:
    """Print the largest difference and return the exit status: 1 if it reaches the limit."""
    worst = max(differences)
    print(f'\nLargest difference {worst:.1e}, limit {LIMIT:.0e}; torch {torch.__version__}')
    return int(not worst < LIMIT)
