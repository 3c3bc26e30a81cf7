"""Loading weights into a hierarchical timm model: all of them or none.

Unlike a ViT, whose grid and patches may differ from the file's, such a model has nothing that
needs resizing here: what timm's own filter of the family does not convert does not fit.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..weights import CheckpointMismatchError, LoadReport
from ..weights.convert import find_filter
from ..weights.read import read_tensors
from ..weights.report import share_of
from ..weights.resize import fit_channels

_SHOWN = 4  # names listed in an error


def load_pyramid_weights(
    model: nn.Module, source: Path | Mapping[str, Tensor], *, whole: nn.Module
) -> LoadReport:
    """Load a file or a state dict; on an error the model is left as it was.

    Args:
        model: the timm model, without the layers that no map needs.
        source: local file (see `read_checkpoint`), or a state dict. timm's own names, those that
            the `checkpoint_filter_fn` of the family converts, and either behind any prefix.
        whole: the model with all its layers; tells which names a file may have. Meta will do.

    Returns:
        What became of each tensor.

    Raises:
        FileNotFoundError, CheckpointReadError: no such file, or no weight file.
        CheckpointMismatchError: the file does not have every tensor of the model in its shape, or
            has others that the whole model has not.
    """
    tensors, name, section = read_tensors(source)
    report = LoadReport(source=name, section=section)
    total = len(tensors)
    tensors, report.prefix = _strip_prefix(tensors, whole)
    report.outside = total - len(tensors)
    try:
        tensors = _to_timm_names(tensors, whole)
    except (AttributeError, KeyError, IndexError, RuntimeError, ValueError, AssertionError) as err:
        raise _mismatch(report, model, f'timm cannot convert it ({err})') from err
    report.resized |= fit_channels(tensors, model)
    fitting = _sort_out(tensors, model, whole, report)
    if report.mismatched or report.missing or report.unexpected:
        total = len(report.loaded) + len(report.missing) + len(report.mismatched)
        raise _mismatch(report, model, f'{len(report.loaded)} of {total} tensors fit')
    with torch.no_grad():
        model.load_state_dict(fitting, strict=False)
    return report


def _strip_prefix(tensors: dict[str, Tensor], whole: nn.Module) -> tuple[dict[str, Tensor], str]:
    """Cuts off what stands before the model's own names (`module.`, `backbone.model.`)."""
    own = set(whole.state_dict())
    prefixes = {''}
    for name in tensors:
        parts = name.split('.')
        prefixes |= {
            '.'.join(parts[:i]) + '.' for i in range(1, len(parts)) if '.'.join(parts[i:]) in own
        }

    def inside(prefix: str) -> tuple[int, int]:
        known = sum(n.startswith(prefix) and n[len(prefix) :] in own for n in tensors)
        return known, -len(prefix)

    best = max(sorted(prefixes), key=inside)
    return {n[len(best) :]: t for n, t in tensors.items() if n.startswith(best)}, best


def _to_timm_names(tensors: dict[str, Tensor], whole: nn.Module) -> dict[str, Tensor]:
    filter_fn = find_filter(whole)
    if filter_fn is None:
        return tensors
    count = len(inspect.signature(filter_fn).parameters)
    return dict(filter_fn(dict(tensors), whole) if count > 1 else filter_fn(dict(tensors)))


def _sort_out(
    tensors: dict[str, Tensor], model: Any, whole: nn.Module, report: LoadReport
) -> dict[str, Tensor]:
    """Fills the report's lists and returns the tensors that fit."""
    expected, known = model.state_dict(), whole.state_dict()
    heads = model.pretrained_cfg.get('classifier') or ()
    heads = ('head', heads) if isinstance(heads, str) else ('head', *heads)
    heads = tuple(f'{head}.' for head in heads)
    fitting = {}
    for name, tensor in tensors.items():
        if name not in expected:
            ignored = name in known or name.startswith(heads)
            (report.ignored if ignored else report.unexpected).append(name)
        elif expected[name].shape != tensor.shape:
            report.mismatched[name] = (tuple(tensor.shape), tuple(expected[name].shape))
        else:
            fitting[name] = tensor
    report.loaded = list(fitting)
    # old files do not count batches, and nothing depends on the count
    report.missing = [
        name for name in expected if not (name in tensors or name.endswith('.num_batches_tracked'))
    ]
    report.matched = share_of(expected, fitting)
    return fitting


def _mismatch(report: LoadReport, model: nn.Module, reason: str) -> CheckpointMismatchError:
    place = f' [{report.section}]' if report.section else ''
    lines = [
        f'{report.source}{place} does not fit {type(model).__name__}: {reason}; choose the '
        f'model_name that the weights belong to'
    ]
    for name, (in_file, in_model) in list(report.mismatched.items())[:_SHOWN]:
        lines.append(f'  wrong shape: {name} is {in_file} in the file, {in_model} in the model')
    for label, names in (('missing', report.missing), ('unexpected', report.unexpected)):
        if names:
            lines.append(f'  {label} ({len(names)}): {", ".join(names[:_SHOWN])}')
    return CheckpointMismatchError('\n'.join(lines), report)
