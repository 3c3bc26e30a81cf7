"""Compare a state dict with a model, report the result, and reject weights that do not fit."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..compat.finite_values import list_non_finite
from .names import is_left_out_map

__all__ = [
    'CheckpointMismatchError',
    'LoadReport',
    'compare',
    'require',
    'require_finite',
    'shorten',
    'shortfall',
]

_SHOWN = 6  # names listed per row; more would bury the counts
# Batch norms count batches. Old files lack the counts, and no forward pass reads them.
_COUNTER = '.num_batches_tracked'


@dataclass
class LoadReport:
    """What became of every tensor of a weight file and of every tensor of the model.

    Attributes:
        source: The file, or `'<state dict>'`.
        section: Part of the file that has the weights, e.g. `'model_ema'`; `''` for the top level.
        prefix: What was cut off every name, e.g. `'backbone.vit.model.'`.
        loaded: Names (the model's) that were copied, resized ones included.
        resized: Name -> what was done to it, e.g. `'grid 14x14 -> 32x32'`.
        missing: Names that the model has and the file lacks; they keep their initial values.
        unexpected: Names left over in the file that the model should have had a use for.
        ignored: Names of the file that an encoder does not need: classifier heads, pre-training
            decoders, the norm before the classifier.
        outside: Number of tensors outside `prefix` (a decode head, an adapter).
        mismatched: Name -> (shape in the file, shape in the model), or the number formats if those
            differ in kind; never empty without an error.
        matched: Share of the model's parameters (by count, heads excluded) that were loaded.
        expected: Number of the model's tensors, heads excluded.
        recognised: What the file is, judged by its names; `''` if unknown.
        is_whole_model: Whether the file is a model of another project (`weights.foreign`).
        licence: Licence of the weights, where it is known.
        adapted: What was done to keep the function where file and model differ in their parts.
        record: What the file says about its pretraining (`weights.record`).
        notes: Whatever else the user should know.
    """

    source: str
    section: str = ''
    prefix: str = ''
    loaded: list[str] = field(default_factory=list)
    resized: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    outside: int = 0
    mismatched: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    matched: float = 0.0
    expected: int = 0
    recognised: str = ''
    is_whole_model: bool = False
    licence: str = ''
    adapted: list[str] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def place(self) -> str:
        """The file and the section in it."""
        return self.source + (f' [{self.section}]' if self.section else '')

    def rows(self) -> list[str]:
        """Return what does not fit, a line for each kind."""
        lines = [
            f'  wrong {"shape" if isinstance(in_file, tuple) else "numbers"}: {name} is {in_file} '
            f'in the file, {in_model} in the model'
            for name, (in_file, in_model) in list(self.mismatched.items())[:_SHOWN]
        ]
        for label, names in (('missing', self.missing), ('unexpected', self.unexpected)):
            lines += [f'  {label} ({len(names)}): {shorten(names)}'] if names else []
        return lines

    def __str__(self) -> str:
        """Return a summary of a few lines for the log."""
        lines = [
            f'{self.place}: loaded {len(self.loaded)} tensors = '
            f'{self.matched:.1%} of the parameters; {len(self.resized)} resized, '
            f'{len(self.missing)} missing, {len(self.unexpected)} unexpected, '
            f'{len(self.ignored)} ignored'
        ]
        if self.recognised:
            lines.append(f'  recognised: {self.recognised}')
        if self.record:
            rest = '; the decoder is left out' * bool(self.outside)
            lines.append(f'  pretrained on {self.record["objective"]}{rest}')
        if self.licence:
            lines.append(f'  licence of these weights: {self.licence}')
        lines += [f'  adapted: {what}' for what in self.adapted]
        if self.prefix or self.outside:
            lines.append(f'  taken from {self.prefix!r}, {self.outside} tensors outside it')
        if self.resized:
            lines.append('  resized: ' + _resized_row(self.resized))
        lines += self.rows()
        if self.ignored:
            lines.append(f'  ignored: {shorten(self.ignored)}')
        lines += [f'  {note}' for note in self.notes]
        return '\n'.join(lines)


class CheckpointMismatchError(ValueError):
    """Weights that do not belong to the model; the model is left as it was.

    Attributes:
        report: The `LoadReport` of what would have been loaded.
    """

    def __init__(
        self, report: LoadReport, model: str, reason: str, *, why: str = '', advice: str = ''
    ) -> None:
        lines = [f'{report.place} does not fit {model}: {reason}']
        lines += [f'  {text}' for text in (why,) if text]
        lines += report.rows()
        lines += [f'  {text}' for text in (advice,) if text]
        super().__init__('\n'.join(lines))
        self.report = report


def compare(
    given: Mapping[str, Any],
    expected: Mapping[str, Tensor],
    report: LoadReport,
    *,
    ignored: Callable[[str], bool] = lambda name: False,
) -> dict[str, Tensor]:
    """Compare a state dict with a model's, name by name, and note the outcome in the report.

    Args:
        given: The file's content under the model's names; what is no tensor fits nothing.
        expected: The model's tensors.
        report: Its lists, `matched` and `expected` are filled.
        ignored: Whether a name neither has to be in the file nor has to have a place in the model.

    Returns:
        The tensors that fit, by name.
    """
    fitting: dict[str, Tensor] = {}
    for name, tensor in given.items():
        target = expected.get(name)
        if target is not None and isinstance(tensor, Tensor) and tensor.shape == target.shape:
            if _is_same_kind(tensor, target):
                fitting[name] = tensor
            else:
                report.mismatched[name] = (_numbers(tensor), _numbers(target))
        elif ignored(name) or name.endswith(_COUNTER) or is_left_out_map(name, expected):
            report.ignored.append(name)
        elif target is None:
            report.unexpected.append(name)
        else:
            report.mismatched[name] = (tuple(getattr(tensor, 'shape', ())), tuple(target.shape))
    wanted = {name: t.numel() for name, t in expected.items() if not ignored(name)}
    report.expected = len(wanted)
    counted = {name: size for name, size in wanted.items() if not name.endswith(_COUNTER)}
    report.loaded = list(fitting)
    report.missing = [name for name in counted if name not in given]
    report.resized = {name: what for name, what in report.resized.items() if name in fitting}
    total = sum(counted.values())
    found = sum(size for name, size in counted.items() if name in fitting)
    report.matched = found / total if total else 1.0
    return fitting


def _is_same_kind(tensor: Tensor, target: Tensor) -> bool:
    """Return whether numbers keep their meaning: quantised weights (int8) do not as floats."""
    is_dense = tensor.layout == torch.strided and not tensor.is_meta
    return is_dense and (tensor.is_floating_point() or not target.is_floating_point())


def _numbers(tensor: Tensor) -> str:
    is_dense = tensor.layout == torch.strided and not tensor.is_meta
    return f'{tensor.dtype}' + ('' if is_dense else f' ({tensor.layout}, {tensor.device})')


def shortfall(
    report: LoadReport, *, min_matched: float = 1.0, option: str = '', leftovers: bool = False
) -> str:
    """Return why the weights in a report must not be loaded, `''` if they may.

    Args:
        report: From `compare`.
        min_matched: Share of the model's parameters, in [0, 1], that must fit; 1 requires every
            tensor.
        option: The user's name of `min_matched`.
        leftovers: Whether the file may have tensors without a place in the model.
    """
    lacking = len(report.missing) + len(report.mismatched)
    fit = (
        f'{lacking} of {report.expected} tensors are missing or have another shape; '
        f'{report.matched:.1%} of the parameters fit'
    )
    if report.mismatched or (report.expected and not report.loaded):
        return fit
    if report.matched < min_matched or (min_matched == 1 and report.missing):
        wanted = f'at least {min_matched:.0%} must' if min_matched < 1 else 'all must'
        return f'{fit}, {wanted}{f" ({option})" if option else ""}'
    if report.unexpected and not leftovers:
        return f'{len(report.unexpected)} tensors of the file have no place in the model'
    return ''


def require(
    report: LoadReport,
    model: str,
    *,
    min_matched: float = 1.0,
    option: str = '',
    leftovers: bool = False,
    advice: str = '',
) -> None:
    """Raise an error if `shortfall` gives a reason against loading.

    Args:
        report: From `compare`.
        model: What they should fit, for the message.
        min_matched: See `shortfall`, also for `option` and `leftovers`.
        option: Likewise.
        leftovers: Likewise.
        advice: What to do about it.

    Raises:
        CheckpointMismatchError: If they do not fit.
    """
    reason = shortfall(report, min_matched=min_matched, option=option, leftovers=leftovers)
    if reason:
        raise CheckpointMismatchError(report, model, reason, advice=advice)


def require_finite(tensors: Mapping[str, Any], model: nn.Module, report: LoadReport) -> None:
    """Raise `CheckpointMismatchError` for NaN, and for infinity outside of the model's buffers."""
    if bad := list_non_finite(tensors, {name for name, _ in model.named_buffers()}):
        raise CheckpointMismatchError(
            report,
            type(model).__name__,
            f'NaN or infinity in {len(bad)} tensors: {shorten(bad)}',
            advice='The training that wrote it had diverged, or the file is damaged: give an '
            'earlier checkpoint or another file',
        )


def shorten(names: Collection[str]) -> str:
    """Return the first few names and the number of the others."""
    rest = len(names) - _SHOWN
    return ', '.join(list(names)[:_SHOWN]) + (f', ... ({rest} more)' if rest > 0 else '')


def _resized_row(resized: dict[str, str]) -> str:
    """Group by what was done: a model has one position grid, but a bias table in each block."""
    groups: dict[str, list[str]] = {}
    for name, what in resized.items():
        groups.setdefault(what, []).append(name)
    return '; '.join(
        f'{names[0]}{f" (and {len(names) - 1} like it)" if names[1:] else ""} {what}'
        for what, names in groups.items()
    )
