"""A loss or gradient that is no number stops the training, names its cause, and can be repeated."""

import math
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import DATASETS, MODELS, OPTIM_WRAPPERS
from mmengine.structures import BaseDataElement
from noisy_training import NoisyModel, NoisyNumbers, assert_same, noisy_config, train

from vit_dense.compat.safe_load import safe_load
from vit_dense.engine.non_finite import NonFiniteError, _replay_command

BAD = 7  # the item that makes a loss or a gradient non-finite


@DATASETS.register_module()
class NamedNumbers(NoisyNumbers):
    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = BaseDataElement(metainfo={'img_path': f'images/{index}.png'})
        return {**super().__getitem__(index), 'data_samples': sample}


@MODELS.register_module()
class FailingModel(NoisyModel):
    """Two losses; item BAD makes the first, or its gradient, or the input of batch norm, bad."""

    def __init__(self, bad: str) -> None:
        super().__init__()
        self.bad = bad

    def forward(self, inputs: Any, number: Any, data_samples: Any, mode: str) -> Any:
        hit = BAD in number
        if hit and self.bad == 'input':
            inputs = [one * math.nan for one in inputs]
        loss = super().forward(inputs, number, mode)['loss']
        if hit and self.bad == 'loss':
            loss = loss * math.inf
        if hit and self.bad == 'gradient':
            loss = loss + (self.linear.weight * 0).abs().sum().sqrt()
        return {'loss_a': [loss, loss], 'loss_b': loss * 0 + 1, 'acc': loss * math.nan}


def config(work: Path, bad: str, *, max_skips: int = 0, **changes: Any) -> dict[str, Any]:
    settings = noisy_config(work, randomness={'seed': 0}, **changes)
    settings['model'] = {'type': 'FailingModel', 'bad': bad}
    settings['train_dataloader']['dataset'] = {'type': 'NamedNumbers'}
    settings['train_dataloader']['sampler'] = {'type': 'DefaultSampler', 'shuffle': False}
    settings['default_hooks']['non_finite']['max_skips'] = max_skips
    return settings


def stopped(settings: dict[str, Any]) -> str:
    with pytest.raises(NonFiniteError) as caught:
        train(settings)
    return str(caught.value)


@pytest.mark.parametrize('clip', [None, {'max_norm': 1.0}], ids=['plain', 'clipped'])
@pytest.mark.parametrize('bad', ['loss', 'gradient', 'input'])
def test_training_stops_before_the_update(bad: str, clip: Any, tmp_path: Path) -> None:
    """Item 7 is in the fourth batch."""
    settings = config(tmp_path, bad)
    settings['optim_wrapper']['clip_grad'] = clip
    message = stopped(settings)
    value = r'[\d.]+' if bad == 'gradient' else r'(nan|inf)'
    assert re.search(rf'Iteration 4: not finite.*loss_a {value}, loss_b', message)
    assert 'norm of the gradient nan' in message or 'norm of the gradient inf' in message
    assert 'images/6.png, images/7.png' in message
    assert f'Last checkpoint: {tmp_path}/iter_3.pth' in message
    assert_same(tmp_path / 'iter_3.pth', tmp_path / 'non_finite' / 'iter_3.pth')
    assert not list(tmp_path.glob('iter_4*'))


def test_the_replay_repeats_the_step(tmp_path: Path) -> None:
    first = stopped(config(tmp_path / 'a', 'input'))
    replay = str(tmp_path / 'a/non_finite/iter_3.pth')
    again = stopped(config(tmp_path / 'b', 'input', load_from=replay, resume=True))
    assert again.splitlines()[0] == first.splitlines()[0]


def test_as_many_updates_as_stated_are_left_out(tmp_path: Path) -> None:
    """Of 13 batches of 10 items in order, the 4th and the 9th have item 7."""
    train(config(tmp_path / 'two', 'input', max_skips=2))
    state = safe_load(tmp_path / 'two/iter_13.pth')['state_dict']
    assert all(tensor.isfinite().all() for tensor in state.values())
    third, fourth = (safe_load(tmp_path / f'two/iter_{n}.pth')['state_dict'] for n in (3, 4))
    assert all(torch.equal(third[name], fourth[name]) for name in third)
    assert 'Iteration 9' in stopped(config(tmp_path / 'one', 'input', max_skips=1))


def test_an_update_of_several_batches_is_repeated_from_its_first(tmp_path: Path) -> None:
    settings = config(tmp_path, 'loss')
    settings['optim_wrapper']['accumulative_counts'] = 3
    assert 'images/6.png' in stopped(settings)
    assert [path.name for path in (tmp_path / 'non_finite').iterdir()] == ['iter_3.pth']
    assert_same(tmp_path / 'iter_3.pth', tmp_path / 'non_finite' / 'iter_3.pth')


def test_a_checkpoint_between_the_batches_of_an_update_is_sound(tmp_path: Path) -> None:
    """Batch 4 of the update 4 to 6 has NaN in the statistics of batch norm."""
    settings = config(tmp_path, 'input', max_skips=2)
    settings['optim_wrapper']['accumulative_counts'] = 3
    train(settings)
    third, last = (safe_load(tmp_path / f'iter_{n}.pth')['state_dict'] for n in (3, 13))
    fourth = safe_load(tmp_path / 'iter_4.pth')['state_dict']
    assert all(torch.equal(third[name], fourth[name]) for name in third)
    assert all(tensor.isfinite().all() for tensor in last.values())


@OPTIM_WRAPPERS.register_module()
class ScaledWrapper(OptimWrapper):
    """mmengine's `AmpOptimWrapper`, which needs a GPU, on the CPU."""

    def __init__(self, dynamic: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._scale_update_param = None if dynamic else 1.0
        start = 2.0**-12 if dynamic else 1.0
        self.loss_scaler = torch.amp.GradScaler('cpu', init_scale=start)

    def backward(self, loss: torch.Tensor, **kwargs: Any) -> None:
        self.loss_scaler.scale(loss).backward(**kwargs)
        self._inner_count += 1

    def step(self, **kwargs: Any) -> None:
        self.loss_scaler.step(self.optimizer, **kwargs)
        self.loss_scaler.update(self._scale_update_param)


@pytest.mark.parametrize('dynamic', [True, False])
def test_a_loss_scale_leaves_out_updates_by_itself(dynamic: bool, tmp_path: Path) -> None:
    """A fixed one at no time, a dynamic one until the scale has fallen: 2^-12, -13, -14, -15."""
    settings = config(tmp_path, 'loss', train_cfg={'by_epoch': False, 'max_iters': 30})
    settings['optim_wrapper'].update(type='ScaledWrapper', dynamic=dynamic)
    message = stopped(settings)
    assert message.startswith(f'Iteration {14 if dynamic else 4}: not finite')
    assert ('the loss scale fell to' in message) == dynamic


def test_a_loss_scale_leaves_no_nan_in_buffers(tmp_path: Path) -> None:
    """A forward pass that overflows reaches the statistics of batch norm before the scale."""
    settings = config(tmp_path, 'input')
    settings['optim_wrapper'].update(type='ScaledWrapper', dynamic=True)
    train(settings)
    state = safe_load(tmp_path / 'iter_13.pth')['state_dict']
    assert all(tensor.isfinite().all() for tensor in state.values())
    assert state['norm.running_mean'].any()


def test_the_command_finds_modules_beside_the_config(tmp_path: Path) -> None:
    """And it starts as many processes; spaces are quoted."""
    folder = tmp_path / 'my configs'
    folder.mkdir()
    module = ModuleType('beside_the_config')
    module.__file__ = str(folder / 'beside_the_config.py')
    (folder / 'a.py').touch()
    cfg = Config({'custom_imports': {'imports': ['beside_the_config']}}, filename=folder / 'a.py')
    runner = SimpleNamespace(cfg=cfg, work_dir='w', distributed=True, launcher='pytorch')
    with patch.dict(sys.modules, {'beside_the_config': module}):
        command = _replay_command(runner, Path('w/non_finite/iter_3.pth'))
    assert shlex.split(command) == [
        *('env', f'PYTHONPATH={folder}', 'torchrun', '--nproc_per_node=1', 'tools/train.py'),
        *('w/a.py', '--work-dir', 'w/non_finite', '--resume', 'w/non_finite/iter_3.pth'),
        *('--launcher', 'pytorch'),
    ]
    runner = SimpleNamespace(cfg=cfg, work_dir='w', distributed=False, launcher='none')
    assert _replay_command(runner, Path('f/iter_3.pth')).startswith('tools/train.py w/a.py')


def test_wrong_numbers_of_skips_are_refused(tmp_path: Path) -> None:
    for wrong in (-1, 0.5):
        with pytest.raises(ValueError, match=f'max_skips={wrong} of NonFiniteHook'):
            train(config(tmp_path, 'loss', max_skips=wrong))
