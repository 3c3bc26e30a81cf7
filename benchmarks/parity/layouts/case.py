"""A weight file of other authors, and how it is made from one of their modules."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.parity.values import image, value

WIDTH, DEPTH, HEADS = 48, 2, 3
SMALL = {'embed_dim': WIDTH, 'depth': DEPTH, 'num_heads': HEADS}
NORM = partial(nn.LayerNorm, eps=1e-6)
# what a training checkpoint holds besides the weights
TRAINING = {'epoch': 3, 'scaler': {'scale': 1.0}, 'args': argparse.Namespace(lr=1e-3)}
Size = tuple[int, int]
Outputs = dict[Size, dict[str, Tensor]]


@dataclass
class Case:
    """A file, what the authors' module computed, and the timm model that should compute the same.

    Attributes:
        name: Also that of the file.
        content: What the file holds.
        section: Key under which the file holds the weights; '' for the whole file.
        state: The weights, under their names in the file.
        outputs: By image size, patch tokens (2, h*w, C): `'blocks'` after the last block, `'norm'`
            after the final norm, if there is one.
        vit: timm name.
        kwargs: TimmViT's `model_kwargs`.
        options: Of loading.
        suffix: Of the file's name.
        note: What was changed on either side to make them comparable.
        zero_keys: Whether the key biases are zero.
    """

    name: str
    content: dict[str, Any]
    section: str
    state: dict[str, Tensor]
    outputs: Outputs
    vit: str
    kwargs: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    suffix: str = '.pth'
    note: str = ''
    zero_keys: bool = False


@torch.no_grad()
def make_case(
    name: str,
    model: Any,
    vit: str,
    sizes: list[Size],
    *,
    root: str = '',
    section: str = 'model',
    extra: dict[str, Any] | None = None,
    content: dict[str, Any] | None = None,
    kwargs: dict[str, Any] | None = None,
    fill: bool = True,
    run: Callable[[Tensor], Any] | None = None,
    last: nn.Module | None = None,
    norm: nn.Module | None = None,
    tokens: int = 1,
    **more: Any,
) -> Case:
    """Fill a module by the formula, run it, and describe its file.

    Args:
        name: How to call the case.
        vit: timm name of the model that the weights belong to.
        section: Where in the file the weights are.
        model: The authors' module.
        sizes: Of the images; the timm model is built for the first.
        root: In front of the names in the file.
        extra: Other tensors in the same section.
        content: Other entries of the file.
        kwargs: Further arguments of the timm model.
        fill: Whether to set the weights.
        run: Called on images in place of `model`.
        last: The last block; `model.blocks[-1]` by default.
        norm: The final norm, if the timm model has one.
        tokens: Number of prefix tokens.
        more: Further fields of the case.
    """
    if fill:
        set_weights(model, root)
    caught: list[Any] = []
    handle = (last or model.blocks[-1]).register_forward_hook(lambda *a: caught.append(a[2]))
    found = {}
    for size in sizes:
        (run or model)(image(*size))
        output = caught.pop()
        output = output[0] if isinstance(output, tuple) else output
        output = output.flatten(1, 2) if output.ndim == 4 else output
        found[size] = {'blocks': output[:, tokens:].clone()}
        if norm is not None:
            found[size]['norm'] = norm(output)[:, tokens:].clone()
    handle.remove()
    state = {root + key: tensor for key, tensor in model.state_dict().items()}
    weights = state | (extra or {})
    file = {section: weights, **(content or {})} if section else weights
    kwargs = {**SMALL, 'img_size': sizes[0], **(kwargs or {})}
    return Case(name, file, section, state, found, vit, kwargs, **more)


def rectangle(grid: int) -> Size:
    """Return rows and columns of a grid that is not square."""
    return (grid - 4, grid) if grid > 8 else (grid, grid + 2)


def pixels(grid: Size, patch: int = 16) -> Size:
    """Return the image size of a grid of patches."""
    return grid[0] * patch, grid[1] * patch


def both_shapes(grid: int) -> Iterator[tuple[Size, str]]:
    """Yield the size of a square and of a rectangular image, and the end of the case's name."""
    yield pixels((grid, grid)), ''
    yield pixels(rectangle(grid)), ' rectangle'


@torch.no_grad()
def set_weights(module: nn.Module, root: str = '') -> Any:
    """Set all parameters by the formula, under their names in the file, but no buffers."""
    for name, parameter in module.named_parameters():
        parameter.copy_(value(root + name, tuple(parameter.shape)))
    return module.eval()


@contextmanager
def interpolation(**change: Any) -> Iterator[None]:
    """Interpolate by timm's convention in the authors' code: antialias, and the exact size."""
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
