"""ShardedRunner trains as the plain Runner does, and writes the files that it would write."""

from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from families import SMALL
from mmengine.config import Config
from mmengine.optim import OptimWrapperDict
from sharded_training import CASES, STEPS, family_gradients, run, work_in_process
from torch import multiprocessing, nn

from vit_dense.engine import ShardedRunner
from vit_dense.engine.sharding import shard_model

pytestmark = pytest.mark.skipif(
    not hasattr(torch.cpu.Stream, 'record_event'), reason='FSDP of torch 2.6 needs GPUs'
)
EXACT = [name for name in CASES if name != 'bfloat16']
Results = dict[str, dict[str, Any]]


def in_two_processes(folder: Path, jobs: list[tuple[str, Any, dict[str, Any]]]) -> Results:
    """Run jobs in this process and in a new one; returns what this one recorded."""
    other = multiprocessing.spawn(work_in_process, (folder, jobs), join=False)
    try:
        with patch.dict('os.environ'):
            return work_in_process(-1, folder, jobs)
    finally:
        other.join()


def plain(folder: Path, name: str, **changes: Any) -> dict[str, Any]:
    changes = {**CASES[name], **changes}
    changes.pop('sharding', None)
    return run(folder, processes=1, sharded=False, **changes)


def resumed(path: Path) -> dict[str, Any]:
    return {'resume': True, 'load_from': str(path / 'iter_2.pth')}


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
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6, msg=name)
    elif not name.endswith('.foreach'):
        assert mine == other, name


def assert_same_training(given: dict[str, Any], expected: dict[str, Any]) -> None:
    """Losses, norms of gradients, validations and the last checkpoint are equal."""
    for figure in ('losses', 'norms', 'validated'):
        last = expected[figure][-len(given[figure]) :] if given[figure] else expected[figure]
        assert given[figure] == pytest.approx(last, abs=1e-6, rel=1e-5), figure
    assert_same_file(given['checkpoint'], expected['checkpoint'])


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    expected = plain(tmp_path / 'plain', 'quick')
    jobs = [('two', run, {**CASES['quick'], **resumed(tmp_path / 'plain')})]
    found = in_two_processes(tmp_path, jobs)['two']
    assert_same_training(found, expected)
    assert len(found['losses']) == STEPS - 2
    assert found['bytes'] < 0.55 * expected['bytes']


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp('sharded')


@pytest.fixture(scope='module')
def averaged(folder: Path) -> dict[str, Any]:
    return plain(folder / 'plain average', 'average')


@pytest.fixture(scope='module')
def found(folder: Path, averaged: dict[str, Any]) -> Results:
    jobs = [(name, run, changes) for name, changes in CASES.items()]
    for name, source in {'1 to 2': 'plain average', '2 to 2': 'average'}.items():
        jobs.append((name, run, {**CASES['average'], **resumed(folder / source)}))
    return in_two_processes(folder, [*jobs, ('families', family_gradients, {'names': [*SMALL]})])


@pytest.mark.slow
@pytest.mark.parametrize('name', EXACT)
def test_case_equals_plain_training(found: Results, name: str, tmp_path: Path) -> None:
    assert_same_training(found[name], plain(tmp_path / 'plain', name))
    assert len(found[name]['losses']) == STEPS


@pytest.mark.slow
def test_resuming_with_any_number_of_processes(
    found: Results, averaged: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    for name in ('1 to 2', '2 to 2'):
        assert len(found[name]['losses']) == STEPS - 2
        assert_same_training(found[name], averaged)
    alone = plain(tmp_path / '2 to 1', 'average', **resumed(folder / 'average'))
    assert len(alone['losses']) == STEPS - 2
    assert_same_training(alone, averaged)


@pytest.mark.slow
def test_blocks_in_bfloat16(found: Results, tmp_path: Path) -> None:
    expected, mixed = plain(tmp_path / 'plain', 'bfloat16'), found['bfloat16']
    assert mixed['dtypes'] == {torch.bfloat16}
    assert expected['dtypes'] == found['clip']['dtypes'] == {torch.float32}
    assert mixed['losses'] == pytest.approx(expected['losses'], rel=0.05)
    assert mixed['losses'] != pytest.approx(expected['losses'], rel=1e-6)
    weights = torch.load(mixed['checkpoint'], weights_only=False)
    assert {one.dtype for one in weights['state_dict'].values()} == {torch.float32}
    states = weights['optimizer']['state'].values()
    assert {one['exp_avg'].dtype for one in states} == {torch.float32}


@pytest.mark.slow
def test_gradients_of_every_family(found: Results, tmp_path: Path) -> None:
    expected = family_gradients(tmp_path, [*SMALL], sharded=False)
    for family, gradients in expected.items():
        for name, gradient in gradients.items():
            mine = found['families'][family][name]
            assert (mine is None) == (gradient is None), (family, name)
            if gradient is not None:
                torch.testing.assert_close(
                    mine, gradient, rtol=1e-3, atol=1e-6, msg=f'{family} {name}'
                )


class Stub(ShardedRunner):
    """Has a config and a launcher, and no training."""

    def __init__(self, distributed: bool = True, **config: Any) -> None:
        self.cfg, self._distributed = Config(config), distributed


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        ({'distributed': False}, 'torchrun --nproc_per_node=N'),
        ({'sharding': {'dtype': 'bfloat16'}}, "'dtype': 'bfloat16'.*allowed is dict"),
        (
            {'sharding': {'param_dtype': 'float16'}},
            "allowed is dict.param_dtype='float32'. or 'bfloat16'",
        ),
        ({'model_wrapper_cfg': {'type': 'DDP'}}, 'remove model_wrapper_cfg'),
    ],
)
def test_what_cannot_be_sharded_is_told_before_training(config: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Stub(**config).train()


def test_scalars_and_several_optimizers_are_refused() -> None:
    model = nn.Linear(1, 1)
    model.scale = nn.Parameter(torch.ones(()))
    with pytest.raises(ValueError, match='without a dimension: scale'):
        shard_model(model)
    runner = Stub()
    runner.optim_wrapper = OptimWrapperDict()
    with pytest.raises(ValueError, match='one OptimWrapper, got OptimWrapperDict'):
        runner._shard()
