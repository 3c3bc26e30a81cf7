"""The outcome of loading weights: what fitted, what was resized, what is missing or left over."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

__all__ = ['CheckpointMismatchError', 'LoadReport']

_SHOWN = 6  # names listed per row; more would bury the counts


@dataclass
class LoadReport:
    """What became of every tensor of a weight file and of every tensor of the model.

    Attributes:
        source: The file, or `'<state dict>'`.
        section: Where in the file the weights lay, e.g. `'model_ema'`; `''` for the top.
        prefix: What was cut off every name, e.g. `'backbone.vit.model.'`.
        loaded: Names (timm's) that were copied, resized ones included.
        resized: Name -> what was done to it, e.g. `'grid 14x14 -> 32x32'`.
        missing: Names the model has and the file lacks; they keep their initial values.
        unexpected: Names left over in the file that an encoder should have had a use for.
        ignored: Names left over on purpose: classifier heads, pre-training decoders, the norm
            before the classifier.
        outside: Number of tensors outside `prefix` (a decode head, an adapter).
        mismatched: Name -> (shape in the file, shape in the model); never empty without an error.
        matched: Share of the model's parameters (by count, heads excluded) that were loaded.
        recognised: What the file was told to be by its names; `''` where they say nothing.
        adapted: What was done to keep the function where file and model differ in their parts.
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
    mismatched: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    matched: float = 0.0
    recognised: str = ''
    adapted: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_released(self) -> bool:
        """Whether the file was recognised as a released ViT-Adapter or ViT-CoMer."""
        return self.recognised.startswith('released ')

    def __str__(self) -> str:
        """Return a summary of a few lines for the log."""
        place = f' [{self.section}]' if self.section else ''
        lines = [
            f'{self.source}{place}: loaded {len(self.loaded)} tensors = '
            f'{self.matched:.1%} of the parameters; {len(self.resized)} resized, '
            f'{len(self.missing)} missing, {len(self.unexpected)} unexpected, '
            f'{len(self.ignored)} ignored'
        ]
        if self.recognised:
            lines.append(f'  recognised: {self.recognised}')
        lines += [f'  adapted: {what}' for what in self.adapted]
        if self.prefix or self.outside:
            lines.append(f'  taken from {self.prefix!r}, {self.outside} tensors outside it')
        if self.resized:
            lines.append('  resized: ' + _resized_row(self.resized))
        rows = (
            ('missing', self.missing),
            ('unexpected', self.unexpected),
            ('ignored', self.ignored),
        )
        lines += [f'  {label}: {shorten(names)}' for label, names in rows if names]
        for name, (in_file, in_model) in list(self.mismatched.items())[:_SHOWN]:
            lines.append(f'  wrong shape: {name} is {in_file} in the file, {in_model} in the model')
        lines += [f'  {note}' for note in self.notes]
        return '\n'.join(lines)


class CheckpointMismatchError(ValueError):
    """Weights that do not belong to the model; the model is left as it was.

    Attributes:
        report: The `LoadReport` of what would have been loaded.
    """

    def __init__(self, message: str, report: LoadReport) -> None:
        super().__init__(message)
        self.report = report


def fits(given: Any, expected: Tensor) -> bool:
    """Whether something read from a file can become a tensor of the model."""
    return isinstance(given, Tensor) and given.shape == expected.shape


def share_of(expected: Mapping[str, Tensor], given: Mapping[str, Any]) -> float:
    """Share of the expected tensors' elements that fit what was given, in [0, 1]."""
    found = sum(t.numel() for name, t in expected.items() if fits(given.get(name), t))
    total = sum(t.numel() for t in expected.values())
    return found / total if total else 1.0


def shorten(names: list[str]) -> str:
    """The first few names and the number of the others."""
    rest = len(names) - _SHOWN
    return ', '.join(names[:_SHOWN]) + (f', ... ({rest} more)' if rest > 0 else '')


def _resized_row(resized: dict[str, str]) -> str:
    """Group by what was done: a model has one position grid, but a bias table in each block."""
    groups: dict[str, list[str]] = {}
    for name, what in resized.items():
        groups.setdefault(what, []).append(name)
    return '; '.join(
        f'{names[0]}{f" (and {len(names) - 1} like it)" if names[1:] else ""} {what}'
        for what, names in groups.items()
    )
