"""A training is resumed with its own recipe, or not at all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.runner import Runner
from tiny_training import tiny_runner

from vit_dense.engine import CheckpointCheckHook

ADAMW = {'type': 'AdamW', 'lr': 0.1}
POLY = {'type': 'PolyLR', 'end': 3, 'by_epoch': False}


def runner(
    work: Path, *, schedules: Any = (POLY,), optimizer: Any = ADAMW, **changes: Any
) -> Runner:
    return tiny_runner(
        work,
        param_scheduler=schedules and list(schedules),
        optim_wrapper={'optimizer': optimizer, **changes},
        default_hooks={'checkpoint': {'type': 'CheckpointHook', 'by_epoch': False, 'interval': 1}},
        custom_hooks=[CheckpointCheckHook()],
    )


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp('first') / 'work'
    runner(work).train()
    return work / 'iter_2.pth'


def resume(found: Runner, path: Path) -> None:
    found._load_from, found._resume = str(path), True
    found.train()


def test_the_same_recipe(trained: Path, tmp_path: Path) -> None:
    found = runner(tmp_path)
    resume(found, trained)
    whole, resumed = (torch.load(one / 'iter_3.pth', weights_only=False)
                      for one in (trained.parent, tmp_path))  # fmt: skip
    assert torch.equal(whole['state_dict']['weight'], resumed['state_dict']['weight'])
    assert found.iter == 3


def test_a_training_without_schedules(tmp_path: Path) -> None:
    runner(tmp_path / 'a', schedules=None).train()
    resume(runner(tmp_path / 'b', schedules=None), tmp_path / 'a' / 'iter_2.pth')
    with pytest.raises(ValueError, match=r'resume from has no param_schedulers \('):
        resume(runner(tmp_path / 'c'), tmp_path / 'a' / 'iter_2.pth')


def edited(trained: Path, tmp_path: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    content = torch.load(trained, weights_only=False)
    edit(content)
    torch.save(content, tmp_path / 'edited.pth')
    return tmp_path / 'edited.pth'


@pytest.mark.parametrize(
    ('edit', 'message'),
    [
        (lambda c: c.pop('optimizer'), r'has no optimizer \(.*\n.*load_from=FILE'),
        (lambda c: (c.pop('optimizer'), c.pop('param_schedulers')),
         'has no optimizer and no param_schedulers'),
        (lambda c: c['optimizer']['state'][0]['exp_avg'].fill_(float('inf')),
         r'holds NaN or infinity \(state\.0\.exp_avg\)'),
        (lambda c: c['state_dict'].update(weight=torch.tensor([float('nan')])),
         r'NaN or infinity in 1 tensors: weight\n.*give an earlier'),
    ],
)  # fmt: skip
def test_incomplete_and_spoilt_files(
    trained: Path, tmp_path: Path, edit: Any, message: str
) -> None:
    path = edited(trained, tmp_path, edit)
    with pytest.raises(ValueError, match=message):
        resume(runner(tmp_path / 'work'), path)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'optimizer': {'type': 'SGD', 'lr': 0.1}}, 'its optimizer has .*betas.* SGD of'),
        ({'schedules': (POLY, POLY)}, r'its schedules \(1\) .* config, PolyLR, PolyLR'),
        ({'schedules': ({'type': 'ConstantLR', 'by_epoch': False},)},
         r'its schedules \(1\) are not those of this config, ConstantLR'),
    ],
)  # fmt: skip
def test_other_recipes(trained: Path, tmp_path: Path, changes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f'another recipe: {message}.*\n.*load_from=FILE'):
        resume(runner(tmp_path / 'work', **changes), trained)


def test_other_parameter_groups(trained: Path, tmp_path: Path) -> None:
    path = edited(trained, tmp_path, lambda c: c['optimizer']['param_groups'].append(
        {**c['optimizer']['param_groups'][0], 'params': [1, 2]}))  # fmt: skip
    with pytest.raises(ValueError, match=r'optimizer \[1, 2\], of this config \[1\]'):
        resume(runner(tmp_path / 'work'), path)
