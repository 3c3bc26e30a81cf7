"""Draw learning curves and figures of each class of trainings, and print them as tables."""

import math
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .models import run_command
from .options import command_parser
from .tables import print_table

if TYPE_CHECKING:
    from ..apis.runs import Run


def build_parser() -> ArgumentParser:
    """Return the options."""
    parser = command_parser(__doc__)
    parser.add_argument('runs', nargs='+', metavar='RUN', help='work directory of a training')
    parser.add_argument('--out', required=True, help='the picture to write: .png, .svg or .pdf')
    return parser


def plot(args: Namespace) -> None:
    """Read the runs, draw them, and print the tables."""
    from ..apis.plots import draw_runs
    from ..apis.runs import read_run

    runs = [read_run(path) for path in args.runs]
    if len({run.name for run in runs}) < len(runs):
        for run, path in zip(runs, args.runs, strict=True):
            run.name = path
    draw_runs(runs, args.out)
    _print_curves(runs)
    _print_classes(runs)
    print(f'\n{args.out}')


def _print_curves(runs: 'Sequence[Run]') -> None:
    rows = []
    for name in dict.fromkeys(name for run in runs for name in run.curves):
        cells = []
        for run in runs:
            steps, values = run.curves.get(name, ([], []))
            numbers = [pair for pair in zip(values, steps, strict=True) if not math.isnan(pair[0])]
            best = max(numbers, key=lambda pair: pair[0], default=None)
            text = f'{values[-1]:.4g} at {steps[-1]}' if values else '-'
            if best and name not in ('loss', 'lr') and best[0] != values[-1]:
                text += f' (highest {best[0]:.4g} at {best[1]})'
            cells.append(text)
        rows.append([name, *cells])
    print_table(['last value', *(run.name for run in runs)], rows)


def _print_classes(runs: 'Sequence[Run]') -> None:
    names = list(dict.fromkeys(name for run in runs for name in run.classes))
    if not names:
        print(
            '\nNo figures of classes: segmentation has them in the log of the run, beside '
            'vis_data/;\ndetection with val_evaluator=dict(classwise=True).'
        )
        return
    # A difference only of what is comparable.
    compared = len(runs) == 2 and runs[0].figure == runs[1].figure
    rows = []
    for name in names:
        values = [run.classes.get(name, math.nan) for run in runs]
        cells = ['-' if math.isnan(value) else f'{value:.4g}' for value in values]
        if compared:
            change = values[1] - values[0]
            cells.append('-' if math.isnan(change) else f'{change:+.4g}')
        rows.append([name, *cells])
    titles = [
        f'{run.name}: {run.figure} at {run.iteration}' if run.classes else run.name for run in runs
    ]
    print()
    print_table(['class', *titles, *['difference'] * compared], rows)


def main() -> int:
    """Run the command with the options in `sys.argv`, and return its exit code."""
    return run_command(plot, build_parser().parse_args())
