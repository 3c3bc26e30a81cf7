"""Runs that are read from what mmengine writes: resumed, cut, with and without classes."""

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from vit_dense.apis.plots import draw_runs
from vit_dense.apis.runs import Run, read_run
from vit_dense.cli import plot

TABLE = """\
2025/01/01 10:00:00 - mmengine - INFO - per class results:
2025/01/01 10:00:00 - mmengine - INFO -
+-----------+-------+-------+
|   Class   |  IoU  |  Acc  |
+-----------+-------+-------+
|    sky    | {0:>5} | 93.35 |
| stop sign | {1:>5} | 60.00 |
|   train   |  nan  |  nan  |
+-----------+-------+-------+
2025/01/01 10:00:01 - mmengine - INFO - Iter({2}) [60/60]    aAcc: 86.3600  mIoU: 60.0000
"""


def start(work: Path, name: str, lines: list[dict[str, Any]], log: str = '') -> Path:
    folder = work / name
    (folder / 'vis_data').mkdir(parents=True)
    file = folder / 'vis_data/scalars.json'
    file.write_text(''.join(json.dumps(line) + '\n' for line in lines))
    if log:
        (folder / f'{name}.log').write_text(log)
    return file


def train(iteration: int, loss: float, **more: Any) -> dict[str, Any]:
    return {'lr': 0.1, 'loss': loss, 'time': 0.1, 'iter': iteration, 'step': iteration, **more}


def val(step: int, **figures: float) -> dict[str, Any]:
    return {**figures, 'data_time': 0.1, 'time': 0.1, 'step': step}


def test_starts_are_joined_and_the_later_one_wins(tmp_path: Path) -> None:
    first = [train(10, 5.0), train(20, 4.0), val(20, mIoU=30.0), train(30, 3.0), train(40, 2.0)]
    start(tmp_path, '20250101_000000', first)
    start(tmp_path, '20250102_000000', [train(30, 3.5), val(30, mIoU=35.0)])
    start(tmp_path, '20250103_000000', [])  # killed before its first line
    run = read_run(tmp_path)
    assert run.name == tmp_path.name
    assert run.curves == {
        'loss': ([10, 20, 30], [5.0, 4.0, 3.5]),
        'lr': ([10, 20, 30], [0.1, 0.1, 0.1]),
        'mIoU': ([20, 30], [30.0, 35.0]),
    }
    one_start = read_run(tmp_path / '20250101_000000')
    assert one_start.curves['loss'] == ([10, 20, 30, 40], [5.0, 4.0, 3.0, 2.0])


def test_validation_by_epoch_lies_at_the_iteration_before_it(tmp_path: Path) -> None:
    lines = [train(50, 5.0, epoch=1), val(1, **{'coco/bbox_mAP': 0.1, 'coco/bbox_mAP_l': -1})]
    lines += [train(107, 5.0, epoch=2), val(2, **{'coco/bbox_mAP': 0.2, 'coco/bbox_mAP_l': -1})]
    start(tmp_path, '20250101_000000', lines)
    curves = read_run(tmp_path).curves
    assert curves['coco/bbox_mAP'] == ([50, 107], [0.1, 0.2])
    assert 'coco/bbox_mAP_l' not in curves


def test_a_line_that_was_cut_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = start(tmp_path, '20250101_000000', [train(10, 5.0), train(20, 4.0)])
    file.write_text(file.read_text()[:-20])
    told: list[str] = []
    monkeypatch.setattr('vit_dense.apis.runs.print_log', lambda text, *_: told.append(text))
    assert read_run(tmp_path).curves['loss'] == ([10], [5.0])
    assert told == [f'{file}: 1 unreadable lines left out']


def test_folders_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'absent does not exist. Name the work directory'):
        read_run(tmp_path / 'absent')
    with pytest.raises(ValueError, match=r'has no \*/vis_data/scalars.json'):
        read_run(tmp_path)
    start(tmp_path, '20250101_000000', [])
    with pytest.raises(ValueError, match=r'1 scalars.json without a readable line'):
        read_run(tmp_path)


def test_classes_of_the_log(tmp_path: Path) -> None:
    log = TABLE.format('10.00', '20.00', 'val') + TABLE.format('70.00', '50.00', 'val')
    log += TABLE.format('99.00', '98.00', 'test')
    start(
        tmp_path, '20250101_000000', [train(10, 5.0), val(10, mIoU=15.0), val(20, mIoU=60.0)], log
    )
    run = read_run(tmp_path)
    assert (run.figure, run.iteration) == ('IoU', 20)
    assert list(run.classes) == ['sky', 'stop sign', 'train']
    assert run.classes['sky'] == 70.0
    assert run.classes['stop sign'] == 50.0
    assert math.isnan(run.classes['train'])


def test_a_table_of_another_validation_is_not_used(tmp_path: Path) -> None:
    log = TABLE.format('70.00', '50.00', 'val')
    start(tmp_path, '20250101_000000', [train(10, 5.0), val(10, mIoU=61.0)], log)
    assert read_run(tmp_path).classes == {}


def test_classes_of_coco(tmp_path: Path) -> None:
    figures = {'coco/bbox_mAP': 0.3, 'coco/red cell_precision': 0.4, 'coco/other_precision': 0.2}
    start(tmp_path, '20250101_000000', [train(10, 5.0), val(10, **figures)])
    run = read_run(tmp_path)
    assert (run.figure, run.classes) == ('AP', {'red cell': 0.4, 'other': 0.2})
    assert list(run.curves) == ['loss', 'lr', 'coco/bbox_mAP']


def test_the_command_draws_and_compares(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = tmp_path / 'one', tmp_path / 'two'
    lines = [train(10, math.nan), val(10, mIoU=70.0), val(20, mIoU=60.0)]
    start(one, '20250101_000000', lines, TABLE.format('70.00', '50.00', 'val'))
    start(two, '20250101_000000', lines, TABLE.format('90.00', '30.00', 'val'))
    out = tmp_path / 'new/runs.png'
    arguments = [str(one), str(two), '--out', str(out)]
    monkeypatch.setattr('sys.argv', ['vit-dense plot', *arguments])
    assert plot.main() == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ['sky', '70', '90', '+20'] in rows
    assert ['stop', 'sign', '50', '30', '-20'] in rows
    assert ['train', '-', '-', '-'] in rows
    assert ['mIoU', *['60', 'at', '20', '(highest', '70', 'at', '10)'] * 2] in rows
    picture = cv2.imread(str(out))
    # The bars of both runs: blue and vermilion, BGR; the sum of their lengths is equal.
    blue = (picture == (178, 114, 0)).all(-1).sum()
    red = (picture == (0, 94, 213)).all(-1).sum()
    assert blue > 5000
    assert abs(blue - red) < 0.05 * blue


def test_every_class_of_many_has_its_bars(tmp_path: Path) -> None:
    figures = {f'class {i}': 50.0 for i in range(150)}
    out = tmp_path / 'runs.png'
    draw_runs([Run('a', {'loss': ([1], [1.0])}, figures, 'IoU')], out)
    picture = cv2.imread(str(out))
    is_bar = (picture == (178, 114, 0)).all(-1).sum(1) > 300
    assert (np.diff(is_bar.astype(int)) == 1).sum() == 150


def test_a_suffix_that_is_no_picture(tmp_path: Path) -> None:
    start(tmp_path, '20250101_000000', [train(10, 5.0)])
    with pytest.raises(ValueError, match=r'--out x.txt: the suffix must be one of .*png'):
        draw_runs([read_run(tmp_path)], 'x.txt')
