"""Signals end a training with a checkpoint from which it continues as if it had not ended."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from noisy_training import assert_same, noisy_config, train

from vit_dense.compat.safe_load import safe_load


@HOOKS.register_module()
class Sender(Hook):
    """Sends a signal to this process at one point of the training."""

    def __init__(self, point: str, at: int, number: int = signal.SIGTERM) -> None:
        self.point, self.at, self.number = point, at, number
        self.validations = 0

    def after_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        if self.point == 'step' and runner.iter + 1 == self.at:
            os.kill(os.getpid(), self.number)

    def before_val_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        if self.point == 'validation' and runner.iter == self.at:
            os.kill(os.getpid(), self.number)

    def after_val_epoch(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        self.validations += 1


def config(work: Path, sender: dict[str, Any], **changes: Any) -> dict[str, Any]:
    settings = noisy_config(work, randomness={'seed': 0}, **changes)
    settings['train_cfg'].setdefault('val_interval', 4)
    settings['train_dataloader']['sampler'] = {'type': 'DefaultSampler', 'shuffle': True}
    settings['val_dataloader'] = dict(settings['train_dataloader'])
    ema = {'type': 'EMAHook', 'momentum': 0.5}
    return {
        **settings,
        'val_cfg': {},
        'val_evaluator': [],
        'custom_hooks': [ema, {'type': 'Sender', **sender}],
    }


NEVER = {'point': 'never', 'at': 0}


@pytest.fixture(scope='module')
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp('uninterrupted') / 'whole'
    train(config(work, NEVER))
    return work


def validations(runner: Any) -> int:
    return next(hook.validations for hook in runner.hooks if isinstance(hook, Sender))


@pytest.mark.parametrize(
    ('point', 'at', 'rest'),
    [('step', 5, 3), ('step', 8, 3), ('validation', 8, 3), ('step', 13, 1), ('validation', 13, 1)],
)
def test_interrupted_and_resumed_equals_uninterrupted(
    point: str, at: int, rest: int, whole: Path, tmp_path: Path
) -> None:
    """Also the averaged weights, and no validation after 4, 8, 12 and 13 is missed."""
    work = tmp_path / 'work'
    with pytest.raises(SystemExit) as caught:
        train(config(work, {'point': point, 'at': at}))
    assert caught.value.code == 128 + signal.SIGTERM
    path = work / f'interrupted_iter_{at}.pth'
    assert (work / 'last_checkpoint').read_text() == str(path)
    assert safe_load(path)['meta']['iter'] == at
    resumed = train(config(work, NEVER, resume=True))
    assert validations(resumed) == rest
    assert_same(whole / 'iter_13.pth', work / 'iter_13.pth')
    averaged = [safe_load(one / 'iter_13.pth')['ema_state_dict'] for one in (whole, work)]
    assert all((averaged[1][name] == value).all() for name, value in averaged[0].items())


def test_an_epoch_continues_where_it_was_interrupted(tmp_path: Path) -> None:
    epochs = {'by_epoch': True, 'max_epochs': 2, 'val_interval': 1}
    train(config(tmp_path / 'whole', NEVER, train_cfg=dict(epochs)))
    work = tmp_path / 'work'
    for point, at, rest in (('step', 3, None), ('validation', 5, None), ('never', 0, 2)):
        settings = config(work, {'point': point, 'at': at}, train_cfg=dict(epochs), resume=True)
        if rest is None:
            with pytest.raises(SystemExit):
                train(settings)
        else:
            assert validations(train(settings)) == rest
    assert_same(tmp_path / 'whole/iter_10.pth', work / 'iter_10.pth')


def test_accumulated_gradients_are_not_lost(tmp_path: Path) -> None:
    settings = config(tmp_path / 'work', {'point': 'step', 'at': 4})
    settings['optim_wrapper']['accumulative_counts'] = 3
    with pytest.raises(SystemExit):
        train(settings)
    assert (tmp_path / 'work/interrupted_iter_6.pth').is_file()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGUSR1])
def test_other_signals(number: signal.Signals, tmp_path: Path) -> None:
    before = signal.getsignal(number)
    settings = config(tmp_path / 'work', {'point': 'step', 'at': 2, 'number': int(number)})
    settings['default_hooks']['stop_signal']['warning_signals'] = ['SIGUSR1']
    with pytest.raises(SystemExit) as caught:
        train(settings)
    assert caught.value.code == 128 + number
    assert signal.getsignal(number) == before


@pytest.mark.parametrize('name', ['USR1', 'SIGKILL'])
def test_unknown_signal_is_refused(name: str, tmp_path: Path) -> None:
    settings = config(tmp_path / 'work', NEVER)
    settings['default_hooks']['stop_signal']['warning_signals'] = name
    with pytest.raises(ValueError, match=f"'{name}', which is no signal of this system"):
        train(settings)
