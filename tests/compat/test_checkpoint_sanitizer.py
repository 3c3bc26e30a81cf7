"""Saving and resuming a real mmengine run with `weights_only` on."""

import enum
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import Dataset

import vit_dense  # noqa: F401  (registers the hook and the loaders)
from vit_dense.compat.checkpoint_sanitizer import restore_histories, to_plain


class _Numbers(Dataset[dict[str, Tensor]]):
    metainfo = {'classes': ('road', 'sky'), 'palette': np.arange(6).reshape(2, 3)}  # noqa: RUF012

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(index)
        return {'x': torch.randn(4, generator=generator)}


class _Net(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))

    def forward(self, x: Tensor, mode: str = 'tensor') -> Any:
        out = self.layers(x)
        return {'loss': (out - x.sum(1, keepdim=True)).square().mean()} if mode == 'loss' else out


class _Numpy(Hook):
    """Puts into the hub what metrics and hooks of real projects put there."""

    def after_train_iter(self, runner: Runner, batch_idx: int, **_: Any) -> None:
        runner.message_hub.update_info('best_score', np.float64(0.25 * batch_idx))
        runner.message_hub.update_scalar('train/extra', np.float32(batch_idx))


def _runner(folder: Path, iters: int, plain: bool, **options: Any) -> Runner:
    torch.manual_seed(0)  # the model is built before the runner seeds itself
    settings: dict[str, Any] = {
        'work_dir': str(folder),
        'model': _Net(),
        'train_dataloader': {
            'dataset': _Numbers(),
            'batch_size': 3,
            'num_workers': 0,
            'collate_fn': {'type': 'default_collate'},
            'sampler': {'type': 'InfiniteSampler', 'shuffle': True},
        },
        'train_cfg': {'type': 'IterBasedTrainLoop', 'max_iters': iters},
        'optim_wrapper': {'optimizer': {'type': 'AdamW', 'lr': 0.05}},
        'param_scheduler': [{'type': 'PolyLR', 'by_epoch': False, 'begin': 0, 'end': 8}],
        'default_hooks': {
            'checkpoint': {'type': 'CheckpointHook', 'interval': 4, 'by_epoch': False},
            'logger': {'type': 'LoggerHook', 'interval': 1},
        },
        'custom_hooks': [
            _Numpy(),
            {'type': 'EMAHook'},
            *([{'type': 'PlainHistoryHook'}] if plain else []),
        ],
        'randomness': {'seed': 3},
        'log_level': 'ERROR',
        'experiment_name': f'{folder.parent.name}_{folder.name}_{iters}_{plain}_{len(options)}',
    }
    return Runner(**{**settings, **options})


def _train(folder: Path, iters: int, plain: bool = True, **options: Any) -> Runner:
    runner = _runner(folder, iters, plain, **options)
    runner.train()
    return runner


def _histories(runner: Runner) -> dict[str, HistoryBuffer]:
    return dict(runner.message_hub.log_scalars)


@pytest.mark.parametrize('plain', [True, False], ids=['plain', 'stock'])
def test_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, plain: bool) -> None:
    whole = _train(tmp_path / 'whole', 8)
    _train(tmp_path / 'cut', 4, plain)
    resumed = _train(tmp_path / 'cut', 8, plain, resume=True)
    assert resumed.iter == 8
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name
    for name in ('train/loss', 'train/lr', 'train/extra'):
        expected, found = _histories(whole)[name], _histories(resumed)[name]
        assert len(expected.data[0]) == 8
        np.testing.assert_array_equal(found.data[0], expected.data[0])
        np.testing.assert_array_equal(found.data[1], expected.data[1])
    assert resumed.message_hub.get_info('best_score') == 0.25 * 7


def test_saved_file_is_plain_and_complete(tmp_path: Path) -> None:
    runner = _train(tmp_path, 4)
    saved = torch.load(tmp_path / 'iter_4.pth', weights_only=True)
    assert saved['meta']['dataset_meta']['palette'] == [[0, 1, 2], [3, 4, 5]]
    assert saved['meta']['dataset_meta']['classes'] == ('road', 'sky')
    assert type(saved['message_hub']['runtime_info']['best_score']) is float
    assert {'optimizer', 'param_schedulers', 'ema_state_dict'} <= saved.keys()
    loss = saved['message_hub']['log_scalars']['train/loss']
    assert loss['log_history'].tolist() == _histories(runner)['train/loss'].data[0].tolist()
    # What the runner itself holds is untouched.
    assert type(_histories(runner)['train/loss']) is HistoryBuffer


def test_plain_file_loads_into_another_run(tmp_path: Path) -> None:
    _train(tmp_path / 'a', 4)
    fresh = _runner(tmp_path / 'b', 4, plain=False, custom_hooks=[])
    fresh.load_checkpoint(str(tmp_path / 'a' / 'iter_4.pth'))
    saved = torch.load(tmp_path / 'a' / 'iter_4.pth', weights_only=True)['state_dict']
    for name, weight in fresh.model.state_dict().items():
        assert torch.equal(weight, saved[name])


class _Level(enum.IntEnum):
    HIGH = 2


def test_to_plain_knows_every_kind() -> None:
    weights = OrderedDict(w=torch.ones(1))
    weights._metadata = {'': {'version': 1}}  # type: ignore[attr-defined]
    tensor = torch.ones(2)
    dropped: list[str] = []
    plain = to_plain(
        {
            'config': Config({'lr': np.float32(0.5)})._cfg_dict,
            'path': Path('a/b'),
            'level': _Level.HIGH,
            'nested': [(np.int64(1), {np.str_('k')})],
            'objects': np.array([1, 'x'], dtype=object),
            'tensor': tensor,
            'weights': weights,
            'object': [None, print],
        },
        'meta',
        dropped,
    )
    assert type(plain['config']) is dict
    assert plain['config'] == {'lr': 0.5}
    assert type(plain['config']['lr']) is float
    assert plain['path'] == 'a/b'
    assert type(plain['level']) is int
    assert plain['nested'] == [(1, {'k'})]
    assert plain['objects'] == [1, 'x']
    assert plain['tensor'] is tensor
    assert plain['weights']._metadata == {'': {'version': 1}}
    assert plain['object'] == [None, None]
    assert dropped == ['meta.object[1] (builtins.builtin_function_or_method)']


def test_what_has_no_plain_form_is_named_in_one_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    messages: list[str] = []
    monkeypatch.setattr(
        'vit_dense.compat.checkpoint_sanitizer.print_log', lambda text, **_: messages.append(text)
    )
    hook = HOOKS.build({'type': 'PlainHistoryHook'})
    checkpoint = {'meta': {'a': object(), 'b': 1}, 'state_dict': {}, 'x': object()}
    hook.before_save_checkpoint(None, checkpoint)
    assert checkpoint == {'meta': {'a': None, 'b': 1}, 'state_dict': {}, 'x': None}
    assert len(messages) == 1
    assert 'meta.a (builtins.object), x (builtins.object)' in messages[0]


@pytest.mark.parametrize('checkpoint', [{}, {'message_hub': None}, {'w': torch.ones(1)}])
def test_restoring_leaves_other_files_alone(checkpoint: dict[str, Any]) -> None:
    before = dict(checkpoint)
    restore_histories(checkpoint)
    assert checkpoint == before
