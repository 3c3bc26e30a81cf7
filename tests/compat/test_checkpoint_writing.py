"""Whatever happens while a checkpoint is written, an earlier one is there."""

import errno
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mmengine.runner
import pytest
import torch
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import METRICS, MODELS
from mmengine.runner import Runner
from tiny_training import OneWeight, tiny_runner

from vit_dense.compat import checkpoint_writing
from vit_dense.compat.checkpoint_writing import (
    CheckpointWriteError,
    read_last_checkpoint,
    write_last_checkpoint,
)

NAN, INF = float('nan'), float('inf')


@METRICS.register_module()
class Rising:
    """Gets better with each validation."""

    dataset_meta, prefix, figure = None, None, 0

    def process(self, *_: Any, **__: Any) -> None:
        pass

    def evaluate(self, size: int) -> dict[str, float]:
        self.figure += 1
        return {'acc': self.figure, 'loss': -self.figure}


@MODELS.register_module()
class Masked(OneWeight):
    """With a mask, as some timm models have."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer('mask', torch.tensor([0.0, -INF]))


class Listing(Hook):
    """Notes the checkpoints that are there while each file is written."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[set[str]] = []
        save = torch.save

        def watched(content: Any, file: Any) -> None:
            save(content, file)
            self.seen.append({path.name for path in folder.glob('*.pth')})

        monkeypatch.setattr(torch, 'save', watched)


def runner(work: Path, *, model: str = 'OneWeight', **checkpoint: Any) -> Runner:
    evaluator = {'type': 'Rising'}
    return tiny_runner(
        work,
        model={'type': model},
        val_evaluator=[METRICS.build(evaluator)],
        default_hooks={'checkpoint': {
            'type': 'CheckpointHook', 'by_epoch': False, 'interval': 1, **checkpoint}},
        optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.0, 'momentum': 0.9}},
        experiment_name=str(work),  # best scores live on by this name
    )  # fmt: skip


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file() and path.suffix != '.py'}


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_one_kept_file_is_deleted_after_the_next_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = Listing(tmp_path, monkeypatch)
    runner(tmp_path, max_keep_ckpts=1, save_best='acc').train()
    assert names(tmp_path) == {'iter_3.pth', 'best_acc_iter_3.pth', 'last_checkpoint'}
    assert read_last_checkpoint(tmp_path) == str(tmp_path / 'iter_3.pth')
    # A save of each step, one of the best, and the step's again with the name of the best.
    assert listing.seen == [
        set(),
        {'iter_1.pth'},
        {'iter_1.pth', 'best_acc_iter_1.pth'},
        {'iter_1.pth', 'best_acc_iter_1.pth'},
        {'iter_2.pth', 'best_acc_iter_1.pth'},
        {'iter_2.pth', 'best_acc_iter_1.pth', 'best_acc_iter_2.pth'},
        {'iter_2.pth', 'best_acc_iter_2.pth'},
        {'iter_3.pth', 'best_acc_iter_2.pth'},
        {'iter_3.pth', 'best_acc_iter_2.pth', 'best_acc_iter_3.pth'},
    ]
    info = torch.load(tmp_path / 'iter_3.pth', weights_only=False)['message_hub']['runtime_info']
    assert info['best_ckpt'] == str(tmp_path / 'best_acc_iter_3.pth')
    assert info['keep_ckpt_ids'] == [3]


def test_several_best_files(tmp_path: Path) -> None:
    runner(
        tmp_path, max_keep_ckpts=2, save_best=['acc', 'loss'], rule=['greater', 'greater']
    ).train()
    assert names(tmp_path) == {'iter_2.pth', 'iter_3.pth', 'best_acc_iter_3.pth',
                               'best_loss_iter_1.pth', 'last_checkpoint'}  # fmt: skip


def test_a_full_disk_is_one_line_and_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / 'iter_1.pth'
    mmengine.runner.save_checkpoint({'w': torch.ones(10)}, str(path))
    with disk_of(100_000), pytest.raises(CheckpointWriteError) as caught:
        mmengine.runner.save_checkpoint({'w': torch.ones(100_000)}, str(path))
    assert names(tmp_path) == {'iter_1.pth'}
    assert torch.equal(torch.load(path)['w'], torch.ones(10))
    message = str(caught.value)
    assert message.startswith(f'Cannot write {path}: File too large (about 400,000 bytes needed, ')
    assert '\n' not in message


def test_other_errors_keep_their_type_and_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(AttributeError, match='pickle'):
        mmengine.runner.save_checkpoint({'f': lambda: 0}, str(tmp_path / 'a.pth'))
    assert names(tmp_path) == set()


def test_failing_to_save_keeps_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, count = torch.save, []

    def full(content: Any, file: Any) -> None:
        save(content, file)
        count.append(0)
        if len(count) == 4:
            raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(torch, 'save', full)
    with pytest.raises(CheckpointWriteError, match=r'iter_2\.pth: No space left'):
        runner(tmp_path, max_keep_ckpts=1, save_best='acc').train()
    assert names(tmp_path) == {'iter_1.pth', 'best_acc_iter_1.pth', 'last_checkpoint'}
    assert read_last_checkpoint(tmp_path) == str(tmp_path / 'iter_1.pth')


def test_links_stay_links(tmp_path: Path) -> None:
    (tmp_path / 'disk').mkdir()
    link = tmp_path / 'a.pth'
    link.symlink_to(tmp_path / 'disk' / 'b.pth')
    mmengine.runner.save_checkpoint({'w': 1}, str(link))
    assert link.is_symlink()
    assert torch.load(tmp_path / 'disk' / 'b.pth') == {'w': 1}


def test_other_backends_are_left_to_mmengine(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(checkpoint_writing, '_stock_save', lambda *given: seen.append(given[1]))
    monkeypatch.setattr(checkpoint_writing, 'get_file_backend', lambda *_, **__: object())
    mmengine.runner.save_checkpoint({}, 's3://bucket/a.pth')
    mmengine.runner.save_checkpoint({}, 'a.pth', file_client_args={'backend': 'disk'})
    assert seen == ['s3://bucket/a.pth', 'a.pth']


def test_last_checkpoint_is_replaced_as_a_whole(tmp_path: Path) -> None:
    assert read_last_checkpoint(tmp_path) == ''
    write_last_checkpoint(tmp_path, tmp_path / 'iter_1.pth')
    with disk_of(1), pytest.raises(CheckpointWriteError, match='last_checkpoint'):
        write_last_checkpoint(tmp_path, tmp_path / 'iter_2.pth')
    assert read_last_checkpoint(tmp_path) == str(tmp_path / 'iter_1.pth')
    assert names(tmp_path) == {'last_checkpoint'}


def test_files_of_another_run_are_not_deleted(tmp_path: Path) -> None:
    first, second = tmp_path / 'first', tmp_path / 'second'
    runner(first, max_keep_ckpts=1, save_best='acc').train()
    before = names(first)
    other = runner(second, max_keep_ckpts=1, save_best='acc')
    other._load_from, other._resume = str(first / 'iter_3.pth'), True
    other.val_evaluator.metrics[0].figure = 10
    other.train_loop._max_iters = 5
    other.train()
    assert names(first) == before
    assert names(second) == {'iter_5.pth', 'best_acc_iter_5.pth', 'last_checkpoint'}


def test_files_of_kills_and_signals_are_deleted_when_a_later_one_is_safe(tmp_path: Path) -> None:
    left = ['.iter_1.pth.tmp', 'interrupted_iter_1.pth', 'interrupted_iter_2.pth']
    kept = ['interrupted_iter_3.pth', 'interrupted_iter_final.pth', 'other.pth', '.b.tmp']
    for name in left + kept:
        (tmp_path / name).touch()
    runner(tmp_path, interval=2, save_last=False).train()
    assert names(tmp_path) == {*kept, 'iter_2.pth', 'last_checkpoint'}


def spoil(found: Runner, part: str, value: float) -> None:
    model = found.model
    tensor = {'weight': model.weight, 'mask': model.mask}.get(part)
    if tensor is None:
        tensor = found.optim_wrapper.optimizer.state[model.weight]['momentum_buffer']
    with torch.no_grad():
        tensor[:] = value


@pytest.mark.parametrize(
    ('part', 'value', 'named'),
    [
        ('weight', NAN, r'\(weight, optimizer'),
        ('weight', INF, r'\(weight, optimizer'),
        ('mask', NAN, r'\(mask\)'),
        ('momentum', NAN, r'\(optimizer\.state\.0\.momentum_buffer\)'),
        ('mask', -INF, None),
    ],
)
def test_nothing_non_finite_is_saved(
    tmp_path: Path, part: str, value: float, named: str | None
) -> None:
    found = runner(tmp_path, model='Masked')

    class Spoil(Hook):
        def before_train_iter(self, *_: Any, **__: Any) -> None:
            # The optimizer's step makes NaN of each weight in any case.
            if found.iter == 2 and part != 'momentum':
                spoil(found, part, value)

        def after_train_iter(self, *_: Any, **__: Any) -> None:
            if found.iter == 2 and part == 'momentum':
                spoil(found, part, value)

    found.register_hook(Spoil())
    if named is None:
        found.train()
        assert (
            torch.load(tmp_path / 'iter_3.pth', weights_only=False)['state_dict']['mask'][1] == -INF
        )
        return
    with pytest.raises(FloatingPointError, match=rf'{named}(?s:.*)without them is .*iter_2\.pth'):
        found.train()
    assert names(tmp_path) == {'iter_1.pth', 'iter_2.pth', 'last_checkpoint'}


def test_averages_are_looked_at_too(tmp_path: Path) -> None:
    found = runner(tmp_path, model='Masked')
    hook = CheckpointHook()
    average = {'module.weight': torch.tensor(NAN), 'module.mask': torch.tensor([0, -INF])}
    with pytest.raises(FloatingPointError, match=r'1 tensors \(module\.weight\)'):
        hook.before_save_checkpoint(
            found, {'meta': {'iter': 1}, 'state_dict': {}, 'ema_state_dict': average}
        )
