"""Draw the learning curves of runs with their figures class by class, and scores of a probe."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from .probe import ProbeResult
from .runs import Run

_COLUMNS = 3
_WIDTH, _HEIGHT = 4.2, 2.8  # inches of a panel
_BAR = 0.17  # inches
# Okabe and Ito's colours, which colour-blind readers tell apart.
_COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000')


def draw_runs(runs: Sequence[Run], path: str | Path) -> None:
    """Write one picture with a panel for each curve and one for the classes.

    Args:
        runs: From `read_run`.
        path: The file, in a format that its suffix names: `.png`, `.svg`, `.pdf`.

    Raises:
        ValueError: Matplotlib does not know the suffix.
    """
    names = list(dict.fromkeys(name for run in runs for name in run.curves))
    classes = list(dict.fromkeys(name for run in runs for name in run.classes))
    rows = math.ceil(len(names) / _COLUMNS)
    bars = 0.8 + _BAR * len(classes) * (len(runs) + 0.6) if classes else 0.0
    figure = Figure(figsize=(_COLUMNS * _WIDTH, rows * _HEIGHT + bars + 0.4), layout='constrained')
    known = figure.canvas.get_supported_filetypes()
    if Path(path).suffix[1:] not in known:
        raise ValueError(f'--out {path}: the suffix must be one of {", ".join(sorted(known))}.')
    grid = figure.add_gridspec(
        rows + bool(classes), _COLUMNS, height_ratios=[_HEIGHT] * rows + [bars] * bool(classes)
    )
    for i, name in enumerate(names):
        _draw_curve(figure.add_subplot(grid[i // _COLUMNS, i % _COLUMNS]), name, runs)
    if classes:
        _draw_classes(figure.add_subplot(grid[-1, :]), classes, runs)
    handles = figure.axes[0].get_lines()
    figure.legend(handles, [run.name for run in runs], loc='outside upper center', ncols=4)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def draw_probe(results: Sequence[ProbeResult], metric: str, path: str | Path) -> None:
    """Write a picture of the scores with their intervals over the times of a forward pass."""
    figure = Figure(figsize=(2 * _WIDTH, 2 * _HEIGHT), layout='constrained')
    axes = figure.add_subplot()
    for i, one in enumerate(results):
        spread = [[one.score - one.interval[0]], [one.interval[1] - one.score]]
        colour = _COLOURS[i % len(_COLOURS)]
        axes.errorbar(one.ms, one.score, spread, fmt='o', color=colour, capsize=3, label=one.model)
    axes.set(xscale='log', xlabel='ms per image', ylabel=f'{metric} of the probe, %')
    axes.xaxis.set_major_formatter('{x:g}')
    axes.xaxis.set_minor_formatter(LogFormatter())  # 40, not 4 x 10^1; some where space is short
    axes.grid(alpha=0.3, which='both')
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=100)


def _draw_curve(axes: Axes, name: str, runs: Sequence[Run]) -> None:
    for i, run in enumerate(runs):
        iterations, values = run.curves.get(name, ([], []))
        marker = 'o' if len(values) < 2 or name not in ('loss', 'lr') else None
        axes.plot(
            iterations, values, color=_COLOURS[i % len(_COLOURS)], marker=marker, markersize=4
        )
    axes.set_title(name, fontsize=10)
    ends = [steps[-1] for run in runs for steps, _ in run.curves.values()]
    axes.set_xlim(0, 1.03 * max(ends))
    axes.set_xlabel('iteration', fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)


def _draw_classes(axes: Axes, classes: list[str], runs: Sequence[Run]) -> None:
    height = 1 / (len(runs) + 0.6)
    places = np.arange(len(classes))
    for i, run in enumerate(runs):
        values = [run.classes.get(name, math.nan) for name in classes]
        axes.barh(places + i * height, values, height, color=_COLOURS[i % len(_COLOURS)])
    axes.set_yticks(places + height * (len(runs) - 1) / 2, classes, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.grid(axis='x', alpha=0.3)
    figures = sorted({run.figure for run in runs if run.classes})
    axes.set_title(f'{" or ".join(figures)} of each class, last validation', fontsize=10)
