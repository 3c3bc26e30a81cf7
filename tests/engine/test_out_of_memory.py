"""Memory that is not enough ends in the settings to lower, with what should fit."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from tiny_training import OneWeight, tiny_config, tiny_runner

from vit_dense.apis import evaluate_model, train_model
from vit_dense.apis.errors import user_message
from vit_dense.engine.out_of_memory import explain_out_of_memory

MIB = 2**20


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """10 GiB are free and 30 GiB held, of which 24 GiB were in use."""
    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda: (10 * 1024 * MIB, 80 * 1024 * MIB))
    monkeypatch.setattr(torch.cuda, 'memory_reserved', lambda: 30 * 1024 * MIB)
    monkeypatch.setattr(torch.cuda, 'max_memory_allocated', lambda: 24 * 1024 * MIB)


def message(work: Path, vit: dict, split: str = 'train', **changes: object) -> str | None:
    """The user's message when a step of `split` runs out of memory."""
    given = tiny_config(work)
    given.update(test_cfg={}, test_evaluator=[], test_dataloader=given['val_dataloader'])
    given[f'{split}_dataloader'] = {**given[f'{split}_dataloader'], 'batch_size': 8}
    runner = Runner.from_cfg(Config({**given, 'crop_size': (512, 512), **changes}))
    runner.cfg.model.backbone = {'type': 'ViTAdapter', 'vit': vit}
    if split != 'test':
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    # 1 GiB that is trained and 1 GiB that is not, without taking any
    runner.model.weight = torch.nn.Parameter(torch.empty(256 * MIB, device='meta'))
    runner.model.register_buffer('frozen', torch.empty(256 * MIB, device='meta'))
    runner.model.train(split == 'train')
    with pytest.raises(ValueError, match='memory') as caught, explain_out_of_memory(runner):
        raise torch.OutOfMemoryError('CUDA out of memory.')
    return user_message(caught.value)


ADAM = {'optimizer': {'type': 'AdamW', 'lr': 0.0}}


def test_training_names_settings_and_what_fits(tmp_path: Path) -> None:
    text = message(tmp_path / 'work', {}, optim_wrapper=ADAM)
    # weights 2 GiB, gradients and AdamW 3 GiB; (24 - 5) / 8 an image, (40 - 5) / 2.375 images
    assert text == (
        'The memory of the GPU, 40.00 GiB, is not enough: weights, gradients and optimizer take '
        '5.00 GiB, each image at least 2.38 GiB.\n'
        'Lower train_dataloader.batch_size=8 (at most 7 may fit) or the size of images '
        '(crop_size=(512, 512)), or set --amp or model.backbone.vit.grad_checkpointing=True or '
        'model.backbone.vit.window_size=14.'
    )


def test_what_fits_follows_from_the_free_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda: (0, 0))
    monkeypatch.setattr(torch.cuda, 'memory_reserved', lambda: 16 * 1024 * MIB)
    # SGD without momentum has no state: 3 GiB, (24 - 3) / 8 = 2.625 an image, 13 / 2.625 = 4.95
    assert 'batch_size=8 (at most 4 may fit)' in message(tmp_path / 'work', {})


def test_settings_in_use_are_not_advised(tmp_path: Path) -> None:
    vit = {'grad_checkpointing': True, 'window_size': 14}
    text = message(tmp_path / 'work', vit)
    assert text.endswith('(crop_size=(512, 512)), or set --amp.')
    loader = tiny_config(tmp_path)['train_dataloader']
    text = message(tmp_path / 'one', vit, train_dataloader={**loader, 'batch_size': 1})
    assert 'batch_size' not in text


@pytest.mark.parametrize(
    ('split', 'fixed'),
    [('val', 'weights, gradients and optimizer take 3.00 GiB'), ('test', 'weights take 2.00 GiB')],
)
def test_evaluation_advises_what_saves_memory_there(tmp_path: Path, split: str, fixed: str) -> None:
    text = message(tmp_path / 'work', {}, split)
    assert fixed in text
    assert f'{split}_dataloader.batch_size=8' in text
    assert text.endswith('(crop_size=(512, 512)).')


def test_other_errors_pass(tmp_path: Path) -> None:
    runner = tiny_runner(tmp_path / 'work')
    with pytest.raises(RuntimeError, match='other'), explain_out_of_memory(runner):
        raise RuntimeError('other')


@pytest.mark.parametrize('work', [train_model, evaluate_model])
def test_training_and_evaluation_end_in_the_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: Callable
) -> None:
    def forward(self: OneWeight, inputs: object, mode: str) -> None:
        raise torch.OutOfMemoryError('CUDA out of memory.')

    monkeypatch.setattr(OneWeight, 'forward', forward)
    config = Config(tiny_config(tmp_path / 'work'))
    config.update(test_cfg={}, test_evaluator=[], test_dataloader=config.val_dataloader)
    torch.save({'state_dict': {'weight': torch.ones(1)}}, tmp_path / 'one.pth')
    options = [str(tmp_path / 'one.pth')] if work is evaluate_model else []
    with pytest.raises(ValueError, match=r'The memory of the GPU, 40.00 GiB, is not enough'):
        work(config, *options)
