"""Trace a module with torch.export, and compute what is constant."""

import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ..backbones.families import explicit_attention
from ..ops.exporting import Sampling, export_sampling


class ExportError(ValueError):
    """A model, or a setting, that cannot be exported: what, why, and what to do."""


def trace(
    module: nn.Module,
    inputs: dict[str, Tensor],
    *,
    dynamic: dict[int, str],
    sampling: Sampling = 'grid_sample',
) -> ExportedProgram:
    """Return the graph of a module in which everything that is constant is computed.

    For a fixed image size this folds the antialiased bicubic resizing of position embeddings, of
    tables of relative positions and of rotary embeddings, which engines compute differently or not
    at all.

    Args:
        module: In evaluation mode.
        inputs: Example values of `forward`, by name.
        dynamic: Dimensions of the input 'image' that may vary, with what they are.
        sampling: Operators of deformable attention.

    Raises:
        ExportError: It cannot be traced, or a dimension cannot vary.
    """
    shapes: dict[str, Any] = dict.fromkeys(inputs)
    if dynamic:
        shapes['image'] = dict.fromkeys(dynamic, Dim.DYNAMIC)
    # The exporter writes fused attention of tensors (B, heads, N, D) only, and not SAM's.
    with torch.no_grad(), export_sampling(sampling), explicit_attention(module.modules()):
        try:
            folded: Any = _trace(module, inputs, shapes).module()
            _fold(folded)
            return _trace(folded, inputs, shapes)
        except Exception as error:  # torch raises many kinds, also of libraries below it
            raise ExportError(_reason(error, dynamic)) from error


def _trace(module: nn.Module, inputs: dict[str, Tensor], shapes: dict[str, Any]) -> ExportedProgram:
    return torch.export.export(module, (), dict(inputs), dynamic_shapes=shapes, strict=False)


def _fold(graph: Any) -> None:
    # The pass that torch.compile freezes weights with. torch has no public one.
    from torch._inductor.constant_folding import constant_fold

    constant_fold(graph)


def _reason(error: Exception, dynamic: dict[int, str]) -> str:
    text = str(error)
    fixed = re.findall(
        r"static shape of (\d+) for dimension inputs\['image'\]\.shape\[(\d)\]", text
    )
    if fixed:
        names = ', '.join(f'{dynamic[int(axis)]} {size}' for size, axis in fixed)
        return (
            f'This model holds for a fixed {names} only: leave out --dynamic-size, and give --size '
            'HEIGHT WIDTH.'
        )
    lines = [line for line in text.splitlines() if line.strip()]
    return f'torch.export cannot trace this model: {lines[0] if lines else type(error).__name__}'
