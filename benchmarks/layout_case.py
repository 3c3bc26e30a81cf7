"""What the scripts on other authors' files share: a case, weights, outputs, stand-ins."""

from __future__ import annotations

import argparse
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from layout_values import image, value
from torch import Tensor, nn

WIDTH, DEPTH, HEADS = 48, 2, 3
SMALL = {'embed_dim': WIDTH, 'depth': DEPTH, 'num_heads': HEADS}
NORM = partial(nn.LayerNorm, eps=1e-6)
# What stands beside the weights in a training checkpoint.
BESIDE = {'epoch': 3, 'scaler': {'scale': 1.0}, 'args': argparse.Namespace(lr=1e-3)}
Size = tuple[int, int]


@dataclass
class Case:
    """A file, what the authors' module computed, and the timm model that should compute it.

    Attributes:
        name: Of the file, too; its suffix is `suffix`.
        content: What the file holds.
        section: Where in it the weights lie.
        state: The weights, under their names in the file.
        outputs: By image size, patch tokens (2, h*w, C): `'blocks'` after the last block, `'norm'`
            after the final norm, where there is one.
        vit: timm name; `kwargs` are TimmViT's `model_kwargs`, `options` those of loading.
        note: What was changed on either side to compare like with like.
        zero_keys: Whether the biases of keys are zero.
    """

    name: str
    content: dict[str, Any]
    section: str
    state: dict[str, Tensor]
    outputs: dict[Size, dict[str, Tensor]]
    vit: str
    kwargs: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    suffix: str = '.pth'
    note: str = ''
    zero_keys: bool = False


def stand_in(name: str, **content: Any) -> types.ModuleType:
    """A module of that name which holds only what is given."""
    module = types.ModuleType(name)
    module.__path__ = []
    module.__dict__.update(content)
    sys.modules[name] = module
    return module


def rectangle(grid: int) -> Size:
    """Rows and columns of a grid that is not square."""
    return (grid - 4, grid) if grid > 8 else (grid, grid + 2)


def pixels(grid: Size, patch: int = 16) -> Size:
    return grid[0] * patch, grid[1] * patch


@torch.no_grad()
def set_weights(module: nn.Module, prefix: str = '') -> Any:
    """All parameters by the formula, under their names in the file; buffers stay."""
    for name, parameter in module.named_parameters():
        parameter.copy_(value(prefix + name, tuple(parameter.shape)))
    return module.eval()


@torch.no_grad()
def outputs(
    module: Any,
    sizes: list[Size],
    *,
    run: Callable[[Tensor], Any] | None = None,
    last: nn.Module | None = None,
    norm: nn.Module | None = None,
    prefix: int = 1,
) -> dict[Size, dict[str, Tensor]]:
    """Patch tokens after the last block, taken by a hook, and after the final norm."""
    caught: list[Any] = []
    handle = (last or module.blocks[-1]).register_forward_hook(lambda *a: caught.append(a[2]))
    found = {}
    for size in sizes:
        (run or module)(image(*size))
        tokens = caught.pop()
        tokens = tokens.flatten(1, 2) if tokens.ndim == 4 else tokens
        found[size] = {'blocks': tokens[:, prefix:].clone()}
        if norm is not None:
            found[size]['norm'] = norm(tokens)[:, prefix:].clone()
    handle.remove()
    return found


@contextmanager
def interpolation(**change: Any) -> Iterator[None]:
    """timm's convention in place of the authors': antialias, and the exact size."""
    original = F.interpolate

    def changed(
        x: Tensor,
        size: Any = None,
        scale_factor: Any = None,
        mode: str = 'nearest',
        align_corners: Any = None,
        **_: Any,
    ) -> Tensor:
        if scale_factor is not None:
            size = [int(n * f) for n, f in zip(x.shape[-2:], scale_factor, strict=True)]
        return original(x, size=size, mode=mode, align_corners=align_corners, **change)

    F.interpolate = changed  # type: ignore[assignment]
    try:
        yield
    finally:
        F.interpolate = original
