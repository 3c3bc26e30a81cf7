"""Loop, sampler and schedule that do not fit each other: an error, or a warning if intended."""

import re
from pathlib import Path
from typing import Any

import pytest
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from tiny_training import tiny_config

from vit_dense.engine.check_hook import CheckHook
from vit_dense.engine.schedule_checks import check_training

EPOCHS = {'by_epoch': True, 'max_epochs': 4, 'val_interval': 1}  # of four iterations
FINITE = {'type': 'DefaultSampler', 'shuffle': False}


class CheckedError(Exception):
    """Ends a training where it would begin."""


class Hook(CheckHook):
    """Checks the training alone."""

    def before_run(self, runner: Runner) -> None:
        check_training(runner)
        raise CheckedError


def warnings(folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> list[str]:
    """Checks the training of `tiny_config` with `changes`, and returns what was warned of."""
    config = tiny_config(folder / 'work')
    if 'sampler' in changes:
        config['train_dataloader']['sampler'] = changes.pop('sampler')
    runner = Runner(**{**config, **changes}, custom_hooks=[Hook()])
    seen: list[str] = []
    logger = MMLogger.get_current_instance()
    monkeypatch.setattr(logger, 'log', lambda level, text: seen.append(text))
    with pytest.raises(CheckedError):
        runner.train()
    return [text for text in seen if text.startswith(('param_scheduler', 'train_cfg'))]


def schedule(kind: str, end: int | None, **options: Any) -> dict[str, Any]:
    ends = {} if end is None else {'end': end}
    return {'param_scheduler': [{'type': kind, 'by_epoch': False, **ends, **options}]}


def checkpoint(**options: Any) -> dict[str, Any]:
    return {'default_hooks': {'checkpoint': {'type': 'CheckpointHook', **options}}}


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'train_cfg': EPOCHS}, 'EpochBasedTrainLoop with InfiniteSampler.*DefaultSampler'),
        (schedule('PolyLR', 3, by_epoch=True), r'PolyLR\(by_epoch=True\).*Set by_epoch=False'),
        (schedule('LinearLR', 1, by_epoch=True), r'LinearLR\(by_epoch=True\)'),
        (checkpoint(by_epoch=True, interval=16000), 'by_epoch=True, interval=16000'),
    ],
)
def test_what_cannot_be_meant_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        warnings(tmp_path, monkeypatch, **changes)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (schedule('PolyLR', 600), 'PolyLR ends at iteration 600, the training at 3, before'),
        (schedule('LinearLR', 1500), 'LinearLR ends at iteration 1500, the training at 3'),
        (schedule('CosineAnnealingLR', 1, T_max=1), 'ends at iteration 1.*a rate near 0'),
        (
            {'train_cfg': EPOCHS, 'sampler': FINITE, **schedule('PolyLR', 12, by_epoch=True)},
            'PolyLR ends at epoch 12, the training at 4',
        ),
        (
            {'train_cfg': EPOCHS, 'sampler': FINITE, **schedule('PolyLR', 400)},
            'PolyLR ends at iteration 400, the training at 16',
        ),
        (
            {'train_cfg': {'by_epoch': False, 'max_iters': 3, 'val_begin': 9}},
            'val_begin=9: the training ends before it',
        ),
    ],
)
def test_what_may_be_meant_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str
) -> None:
    (warning,) = warnings(tmp_path, monkeypatch, **changes)
    assert re.search(message, warning), warning


@pytest.mark.parametrize(
    'changes',
    [
        {},
        {'param_scheduler': schedule('LinearLR', 1)['param_scheduler']},
        schedule('PolyLR', 3),
        schedule('PolyLR', None),
        {'train_cfg': EPOCHS, 'sampler': FINITE, **schedule('PolyLR', 4, by_epoch=True)},
        {'train_cfg': EPOCHS, 'sampler': FINITE, **schedule('PolyLR', 16)},
        {
            'train_cfg': EPOCHS,
            'sampler': FINITE,
            'param_scheduler': [
                {'type': 'LinearLR', 'by_epoch': False, 'end': 2},
                {'type': 'CosineAnnealingLR', 'T_max': 4, 'end': 4, 'convert_to_iter_based': True},
            ],
        },
        {'param_scheduler': [{'type': 'ReduceOnPlateauLR', 'monitor': 'loss'}]},
        checkpoint(by_epoch=False, interval=16000),
        checkpoint(),
        {**checkpoint(by_epoch=True, interval=9), 'train_cfg': EPOCHS, 'sampler': FINITE},
    ],
)
def test_what_fits_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    assert warnings(tmp_path, monkeypatch, **changes) == []
