"""The logged loss is the mean over the processes, and data must be the same in all."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.hooks import RuntimeInfoHook
from mmengine.logging import MessageHub
from mmengine.runner import get_priority
from processes import in_two_processes

from vit_dense.engine import MeanLossHook
from vit_dense.engine.check_hook import check_same_data


def two_steps(rank: int) -> list[dict[str, float]]:
    hook = MeanLossHook()
    found = []
    for step in range(2):
        losses: dict[str, Any] = {
            'loss': torch.tensor(1.0 + 2 * rank + step),
            'acc': [0.2, 0.6][rank],
        }
        losses['bad'] = torch.tensor(math.nan if rank else 1.0)
        if rank == step:
            losses['rare'] = torch.tensor([7.0])
        hook.after_train_iter(None, step, outputs=losses)
        found.append({name: float(value) for name, value in losses.items()})
    return found


def test_losses_are_means_over_processes(tmp_path: Path) -> None:
    """Whatever their type; of a loss that one process lacks, that of the other."""
    for rank, steps in enumerate(in_two_processes(two_steps, tmp_path)):
        for step, losses in enumerate(steps):
            assert losses['loss'] == 2.0 + step
            assert losses['acc'] == pytest.approx(0.4)
            assert math.isnan(losses['bad'])
            assert losses.get('rare') == (7.0 if rank == step else None)


def logged(rank: int) -> list[float]:
    runner = SimpleNamespace(message_hub=MessageHub('mean'))
    hooks = sorted(
        (RuntimeInfoHook(), MeanLossHook()), key=lambda hook: get_priority(hook.priority)
    )
    for loss in [1.0, 4.0, 9.0, 16.0][rank::2]:
        outputs = {'loss': torch.tensor(loss)}
        for hook in hooks:
            hook.after_train_iter(runner, 0, outputs=outputs)
    return runner.message_hub.get_scalar('train/loss').data[0].tolist()


def test_the_logger_gets_the_means(tmp_path: Path) -> None:
    """The hook comes before mmengine's RuntimeInfoHook, which reads the losses."""
    assert in_two_processes(logged, tmp_path) == [[2.5, 12.5]] * 2


def compare(rank: int) -> list[str]:
    def data(length: int, classes: tuple[str, ...]) -> Any:
        part = SimpleNamespace(metainfo={'classes': classes})
        return type('Whole', (list,), {'datasets': [part]})(range(length))

    found = []
    for length, classes in (
        (4, ('a', 'b')),
        (4 + rank, ('a', 'b')),
        (4, ('a', 'b')[:: 1 - 2 * rank]),
    ):
        try:
            check_same_data(data(length, classes), 'training')
            found.append('')
        except ValueError as error:
            found.append(str(error))
    return found


def test_different_data_is_refused(tmp_path: Path) -> None:
    first, second = in_two_processes(compare, tmp_path)
    assert first == second
    assert first[0] == ''
    assert 'training data sets' in first[1]
    assert 'length, [4, 5]' in first[1]
    assert 'names of the classes' in first[2]
