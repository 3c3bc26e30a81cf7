"""ShardedRunner trains as the plain Runner does, and writes the files that it would write."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sharded_training import CASES, STEPS, run, work_in_process
from torch import multiprocessing

QUICK = ['clip']
EXACT = [name for name in CASES if name != 'bfloat16']


def train_in_two(folder: Path, names: list[str], **changes: Any) -> dict[str, dict[str, Any]]:
    jobs = [(name, run, {**CASES[name], **changes}) for name in names]
    multiprocessing.spawn(work_in_process, args=(str(folder), jobs), nprocs=2)
    return torch.load(folder / 'found.pth', weights_only=False)


def plain(folder: Path, name: str, **changes: Any) -> dict[str, Any]:
    changes = {**CASES[name], **changes}
    changes.pop('sharding', None)
    return run(folder / f'plain {name}', processes=1, sharded=False, **changes)


def assert_same_file(given: str, expected: str) -> None:
    """Both checkpoints hold the same names in the same order, and equal values."""
    mine, others = (torch.load(path, weights_only=False) for path in (given, expected))
    assert list(mine) == list(others)
    for part in ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers'):
        assert_same(mine.get(part), others.get(part), part)
    assert all(type(one) is torch.Tensor for one in mine['state_dict'].values())


def assert_same(mine: Any, other: Any, name: str) -> None:
    if isinstance(other, dict):
        assert list(mine) == list(other), name
        for key, value in other.items():
            assert_same(mine[key], value, f'{name}.{key}')
    elif isinstance(other, list):
        assert len(mine) == len(other), name
        for index, value in enumerate(other):
            assert_same(mine[index], value, f'{name}.{index}')
    elif isinstance(other, torch.Tensor | float):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5, msg=name)
    elif not name.endswith('.foreach'):
        assert mine == other, name


def assert_same_training(given: dict[str, Any], expected: dict[str, Any]) -> None:
    for figure in ('losses', 'norms', 'validated'):
        assert given[figure] == pytest.approx(expected[figure], abs=1e-6, rel=1e-5), figure
    assert_same_file(given['checkpoint'], expected['checkpoint'])


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    found = train_in_two(tmp_path, QUICK)['clip']
    assert_same_training(found, plain(tmp_path, 'clip'))
    assert len(found['losses']) == STEPS
    assert found['numel'] < 0.6 * found['total']


@pytest.fixture(scope='module')
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return train_in_two(tmp_path_factory.mktemp('two'), list(CASES))


@pytest.mark.slow
@pytest.mark.parametrize('name', EXACT)
def test_case_equals_plain_training(found: dict, name: str, tmp_path: Path) -> None:
    assert_same_training(found[name], plain(tmp_path, name))
