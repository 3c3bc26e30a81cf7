"""The script for a GPU, at its smallest sizes on a CPU: no section fails, no crash stops it."""

import argparse
import gc
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'benchmarks')
    import gpu

    gc.freeze()  # measurements collect garbage, which takes seconds after many imports
    yield gpu
    gc.unfreeze()


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith('|')]
    return [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]


@pytest.mark.parametrize(
    ('section', 'measured'),
    [('training', 6), ('attention', 8), ('modes', 5), ('evaluation', 3)],
)
def test_sections_measure_without_errors(script, capsys, section, measured):
    script.main(['--tiny', '--device', 'cpu', '--limit', '300', '--alone', section])
    table = [cells for cells in rows(capsys.readouterr().out) if '---' not in cells[0]]
    bodies = [cells for cells in table if any(c[:1].isdigit() for c in cells[1:])]
    assert len(bodies) == measured
    unmeasured = [cells[1] for cells in table if cells not in bodies and 'not avail' in cells[1]]
    assert len(unmeasured) == (4 if section == 'attention' else 0)
    assert not [cells for cells in table if 'Error' in ' '.join(cells)]
    if section == 'training':
        assert bodies[0][5:8] == ['1.00'] * 3
    if section == 'attention':
        assert {float(cells[-1]) <= 1e-2 for cells in bodies} == {True}
    if section == 'modes':
        assert [bodies[0][i] for i in (3, 5)] == ['1.00'] * 2


def test_a_failed_measurement_is_a_row(script, capsys):
    def fail():
        raise RuntimeError('no kernel | here\nsecond line')

    late = script.gpu_sections.Setting('cpu', tiny=True, deadline=0)
    late.attempt(('a',), fail, 3)
    script.gpu_sections.Setting('cpu', tiny=True, deadline=1e12).attempt(('b',), fail, 3)
    assert rows(capsys.readouterr().out) == [
        ['a', 'no time left', ''],
        ['b', 'RuntimeError: no kernel / here', ''],
    ]


def test_a_batch_is_halved_until_it_fits(script):
    def measure(batch):
        if batch > limit:
            raise torch.OutOfMemoryError
        return 'measured'

    limit = 5
    assert script.gpu_sections.largest_batch(measure, 16) == (4, 'measured')
    limit = 0
    with pytest.raises(torch.OutOfMemoryError):
        script.gpu_sections.largest_batch(measure, 16)


def test_processes_are_ended_in_time_and_failures_named(script):
    lines: list[str] = []
    code = "print('one', flush=True); import time; time.sleep(60)"
    assert 'Ended after 1 s' in script.relay([sys.executable, '-c', code], 1, lines.append)
    assert lines == ['one']
    problem = script.relay([sys.executable, '-c', 'raise SystemExit(3)'], 60, lines.append)
    assert 'exit code 3' in problem
    assert script.relay([sys.executable, '-c', 'print(2)'], 60, lines.append) is None
    assert lines == ['one', '2']


def test_the_report_starts_with_the_slow_rows(script, tmp_path):
    report = script.Report(tmp_path / 'gpu.md')
    report.add('# Title', 'Some GPU', '| a | **1.30** |', '| b | 1.10 |')
    report.add('| c | **2.50** |')
    text = report.path.read_text().splitlines()
    assert text[:2] == ['# Title', 'Some GPU']
    assert text[3].startswith('## Slower than 1.25 times')
    assert [line for line in text if '|' in line][2:] == [
        '| c | **2.50** |', '| a | **1.30** |',
        '| a | **1.30** |', '| b | 1.10 |', '| c | **2.50** |',
    ]  # fmt: skip


@pytest.mark.slow
def test_the_tests_for_a_gpu_are_found(script):
    lines: list[str] = []
    args = argparse.Namespace(tiny=True, device='cpu')
    assert script.relay(script.command_of('tests', 60, args), 120, lines.append) is None
    assert sum('tests/cuda/' in line for line in lines) >= 20
