"""Read what trainings recorded: the scalars and logs that mmengine writes into a work directory.

mmengine makes a folder for each start, `20250131_235959/vis_data/scalars.json` with a JSON object a
line. A resumed training begins before the last lines of the one that it continues: of what both
have, the later one is used.
"""

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log

_SCALARS = 'vis_data/scalars.json'
_NO_METRICS = {'step', 'time', 'data_time', 'memory', 'iter', 'epoch'}
_TRAINING = ('loss', 'lr')
_PER_CLASS = re.compile(r'(?:.*/)?(.+)_precision')  # of mmdet's CocoMetric(classwise=True)
_ROUNDING = 0.011  # between a mean of rounded figures and the rounded mean, both of two digits


@dataclass
class Run:
    """What a training recorded.

    Attributes:
        name: The name of its folder.
        curves: Name -> iterations and values, ascending; 'loss', 'lr' and each metric of
            validation. A metric lies at the last iteration logged before it, if its own is not
            recorded (validation by epoch).
        classes: Class -> its figure in the last validation, in percent as mmseg or 0..1 as mmdet
            gives it; NaN for a class without pixels or objects.
        figure: What `classes` holds: 'IoU', 'AP' or another column of mmseg's table.
        iteration: Of the validation of `classes`.
    """

    name: str
    curves: dict[str, tuple[list[int], list[float]]] = field(default_factory=dict)
    classes: dict[str, float] = field(default_factory=dict)
    figure: str = ''
    iteration: int = 0


@dataclass
class _Record:
    source: Path
    iteration: int
    values: dict[str, Any]

    @property
    def is_validation(self) -> bool:
        return not {'loss', 'iter'} & set(self.values)


def read_run(path: str | Path) -> Run:
    """Read a run from its work directory, the folder of one start, or a `scalars.json`.

    Raises:
        ValueError: There is no run, or it recorded nothing.
    """
    path = Path(path)
    files = [path] if path.is_file() else _scalar_files(path)
    if not files:
        state = f'has no */{_SCALARS}' if path.is_dir() else 'does not exist'
        raise ValueError(
            f'No training found: {path} {state}. Name the work directory of a training; its '
            "visualizer must have vis_backends=[dict(type='LocalVisBackend')]."
        )
    records: list[_Record] = []
    for file in files:
        found = list(_records(file))
        if found:
            start = min(one.iteration for one in found)
            records = [one for one in records if one.iteration < start] + found
    if not records:
        raise ValueError(f'{path}: {len(files)} scalars.json without a readable line.')
    run = Run(path.resolve().name if path.is_dir() else str(path))
    for record in records:
        names = _metric_names(record.values) if record.is_validation else _TRAINING
        for name in names:
            if name in record.values:
                iterations, values = run.curves.setdefault(name, ([], []))
                iterations.append(record.iteration)
                values.append(float(record.values[name]))
    _add_classes(run, [one for one in records if one.is_validation])
    return run


def _scalar_files(folder: Path) -> list[Path]:
    """Return the files of all starts, in the order of time, which their folders are named by."""
    starts = sorted(folder.glob(f'*/{_SCALARS}'))
    return starts or [one for one in (folder / _SCALARS, folder / 'scalars.json') if one.is_file()]


def _records(file: Path) -> Iterator[_Record]:
    """Yield the readable lines; a line that was cut when the process was killed is left out."""
    last, bad = 0, 0
    for line in file.read_text(errors='replace').splitlines():
        try:
            values = json.loads(line)
            # The step of a validation by epoch is the epoch.
            last = max(last, int(values.get('iter', values['step'])))
        except (ValueError, KeyError, TypeError, AttributeError):
            bad += 1
            continue
        yield _Record(file, last, values)
    if bad:
        print_log(f'{file}: {bad} unreadable lines left out', 'current', logging.WARNING)


def _metric_names(values: dict[str, Any]) -> list[str]:
    """Return the metrics of a validation; -1 is COCO's mark for a size that no object has."""
    return [
        name
        for name, value in values.items()
        if name not in _NO_METRICS
        and isinstance(value, int | float)
        and not (value == -1 or _PER_CLASS.fullmatch(name))
    ]


def _add_classes(run: Run, validations: list[_Record]) -> None:
    """Take the figures of classes from the last validation, of its scalars or of the log."""
    if not validations:
        return
    last = validations[-1]
    classes = {
        found[1]: float(value)
        for name, value in last.values.items()
        if (found := _PER_CLASS.fullmatch(name))
    }
    figure = 'AP' if classes else ''
    for log in () if classes else last.source.parents[1].glob('*.log'):
        figure, classes = _last_table(log.read_text(errors='replace'))
    if figure not in ('', 'AP'):
        values = np.array(list(classes.values()))
        recorded = last.values.get(f'm{figure}', np.nan)
        # The log may lack what the scalars have: then the table is of another validation.
        if not abs(np.nanmean(values) - recorded) < _ROUNDING:
            return
    run.classes, run.figure, run.iteration = classes, figure, last.iteration


def _last_table(log: str) -> tuple[str, dict[str, float]]:
    """Return the column name and the figures of the last table of mmseg's IoUMetric.

    The first column after the class is read; tables of tests are left out.
    """
    header: list[str] = []
    table: dict[str, float] = {}
    found: tuple[str, dict[str, float]] = '', {}
    for line in log.splitlines():
        cells = [cell.strip() for cell in line.strip().strip('|').split('|')]
        if line.startswith('|') and cells[0] == 'Class':
            header, table = cells, {}
        elif line.startswith('|') and header and len(cells) == len(header):
            table[cells[0]] = float(cells[1])
        elif header and re.search(r'(Iter|Epoch)\((val|test)\)', line):
            if '(val)' in line:
                found = header[1], table
            header, table = [], {}
    return found
