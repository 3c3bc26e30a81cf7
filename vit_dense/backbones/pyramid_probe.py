"""Find the maps of a hierarchical timm model for images of any size by running it on shapes alone.

The strides of the maps, and the parameters that each depends on, are not looked up in a table: on
the meta device a model runs without data in milliseconds.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

STRIDES = (4, 8, 16, 32)
# Cells of the last map in the probe: not square, odd, and not the trained size of any model.
_CELLS = (3, 5)
# Errors of models that are bound to one size: timm's assertions, shapes that do not match.
_UNFIT = (RuntimeError, AssertionError, ValueError, IndexError, TypeError, NotImplementedError)


@dataclass(frozen=True)
class Probe:
    """The maps of a model.

    Attributes:
        channels: Channels of the four maps.
        parameters_per_map: Names of the parameters that each map depends on.
    """

    channels: tuple[int, ...]
    parameters_per_map: tuple[frozenset[str], ...]


def probe(
    name: str,
    model: nn.Module,
    run: Callable[[Tensor], list[Tensor]],
    *,
    in_chans: int,
    divisor: int,
) -> Probe:
    """Run a model on an image on the meta device.

    Args:
        name: Name of the model, for errors.
        model: The model, on the meta device, in eval mode.
        run: Function from an image (1, in_chans, H, W) to the maps of `model`.
        in_chans: Image channels.
        divisor: Image sizes are multiples of this.

    Raises:
        ValueError: If the model does not accept the image, or its maps have other strides.
    """
    height, width = (cells * divisor for cells in _CELLS)
    with torch.enable_grad(), torch.device('meta'):
        try:
            maps = run(torch.zeros(1, in_chans, height, width))
        except _UNFIT as error:
            raise ValueError(
                f'{name!r} cannot take images of any size: one of {height}x{width} px ended in '
                f'{type(error).__name__}: {_reason(error)}. Choose a model without a built-in '
                f'size, such as swin_tiny_patch4_window7_224, convnext_tiny or mobilevitv2_100'
            ) from error
        sizes = [tuple(x.shape[-2:]) for x in maps]
        expected = [(height // s, width // s) for s in STRIDES]
        if sizes != expected:
            raise ValueError(
                f'{name!r} gives maps of {sizes} cells for an image of {height}x{width} px, exact '
                f'strides would give {expected}: it has unpadded layers, whose cells do not lie on '
                f'the grid that heads expect: choose another one'
            )
        names = {parameter: name for name, parameter in model.named_parameters()}
        parameters = tuple(_parameters_of(x, names) for x in maps)
    return Probe(tuple(int(x.shape[1]) for x in maps), parameters)


def _parameters_of(x: Tensor, names: dict[nn.Parameter, str]) -> frozenset[str]:
    """Return the names of the parameters at the leaves of a map's autograd graph."""
    seen: set[Any] = set()
    found = set()
    nodes: list[Any] = [x.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if (parameter := getattr(node, 'variable', None)) is not None:
            found.add(names[parameter])
        nodes += [source for source, _ in node.next_functions]
    return frozenset(found)


def _reason(error: Exception) -> str:
    """Return the text of an error, or the asserting line for timm's assertions without text."""
    if str(error):
        return str(error).rstrip('.')
    frames = list(traceback.walk_tb(error.__traceback__))
    calls = [
        (frame.f_globals.get('__name__', ''), entry.line)
        for (frame, _), entry in zip(frames, traceback.extract_tb(error.__traceback__), strict=True)
    ]
    module, line = next((c for c in reversed(calls) if c[0].startswith('timm.')), calls[-1])
    return f'{module} asks for `{line}`'
