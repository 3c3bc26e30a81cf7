"""The benchmark of several heads on one encoder: its tables, and arms that train one task each."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / 'benchmarks')
    import multitask

    return multitask


@pytest.mark.slow
def test_cost(benchmark: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    options = ['--model-name', 'test_vit', '--size', '64', '--turns', '1']
    monkeypatch.setattr(sys, 'argv', ['multitask.py', *options])
    benchmark.main()
    rows = [line.split(' | ') for line in capsys.readouterr().out.splitlines() if ' | ' in line]
    assert [row[1] for row in rows[1:6]] == ['all', 'linear', 'mlp', 'dpt', 'mean of one']
    assert rows[1][3] == '1.00 |'
    assert all(float(row[2]) > 0 for row in rows[1:])


def test_arms_are_resumed(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    """Arms that are done are read; the figures of a task that was not trained are left out."""
    for arm in benchmark.ARMS:
        folder = tmp_path / f'{arm.replace(" ", "-")}-0'
        folder.mkdir()
        figures = {name: float(number) for number, name in enumerate(benchmark.FIGURES)}
        (folder / 'result.json').write_text(json.dumps(figures))
    options = ['--train', '--seeds', '1', '--work-dir', str(tmp_path)]
    monkeypatch.setattr(sys, 'argv', ['multitask.py', *options])
    benchmark.main()
    rows = capsys.readouterr().out.splitlines()[2:]
    assert rows[0] == '| seg | 600 | 0.0 (0.0 to 0.0) |  |  |'
    assert rows[1] == '| det | 600 |  | 1.0 (1.0 to 1.0) | 2.0 (2.0 to 2.0) |'
    assert rows[3].startswith('| both 2x | 1200 | 0.0 ')
