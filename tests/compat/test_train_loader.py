"""A resumed training sees the data of an uninterrupted one, and reads none of the data before."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from noisy_training import BATCH, ITEMS, assert_same, noisy_config, train

from vit_dense.compat import train_loader
from vit_dense.compat.safe_load import safe_load

SAMPLERS = {'infinite': 'InfiniteSampler', 'default': 'DefaultSampler'}
EPOCHS = {'by_epoch': True, 'max_epochs': 3}


def variant(kind: str, work: Path, **changes: Any) -> dict[str, Any]:
    """The loop over iterations with one of the samplers, or the loop over epochs."""
    config = noisy_config(work, **changes)
    sampler = SAMPLERS.get(kind, 'DefaultSampler')
    config['train_dataloader']['sampler'] = {'type': sampler, 'shuffle': True}
    if kind in ('epochs', 'aspect'):
        config['train_cfg'] = EPOCHS
    if kind == 'aspect':
        pytest.importorskip('mmdet')
        import vit_dense.detection  # noqa: F401

        config['train_dataloader']['batch_sampler'] = {'type': 'mmdet.AspectRatioBatchSampler'}
    return config


@pytest.mark.parametrize(
    ('kind', 'workers', 'stops'),
    [
        ('infinite', 2, (5, 11)),
        ('default', 0, (4, 10)),
        ('epochs', 2, (4, 5, 11)),
        ('aspect', 0, (9,)),
    ],
)
def test_resumed_equals_uninterrupted(
    kind: str, workers: int, stops: tuple[int, ...], tmp_path: Path
) -> None:
    """No seed is given: order and augmentation follow the one in the checkpoint."""
    whole = train(variant(kind, tmp_path / 'whole', workers=workers))
    for stop in stops:
        # In this process: the number of workers does not matter.
        work, state = tmp_path / f'from_{stop}', tmp_path / f'whole/iter_{stop}.pth'
        resumed = train(variant(kind, work, load_from=str(state), resume=True))
        assert (resumed.iter, resumed.seed) == (whole.iter, whole.seed)
        assert_same(tmp_path / f'whole/iter_{whole.iter}.pth', work / f'iter_{whole.iter}.pth')


def test_weights_depend_on_the_random_numbers(tmp_path: Path) -> None:
    """The comparison above can fail."""
    for name, hooks in (('a', {'step_seed': None}), ('b', {})):
        config = noisy_config(tmp_path / name, randomness={'seed': 1})
        config['default_hooks'].update(hooks)
        train(config)
    with pytest.raises(AssertionError):
        assert_same(tmp_path / 'a' / 'iter_13.pth', tmp_path / 'b' / 'iter_13.pth')


def saved_at(iteration: int, folder: Path, **changes: Any) -> str:
    """A checkpoint that claims to be of a later iteration."""
    train(noisy_config(folder, train_cfg={'by_epoch': False, 'max_iters': 1}, **changes))
    content = safe_load(folder / 'iter_1.pth')
    content['meta']['iter'] = iteration
    torch.save(content, path := folder / 'later.pth')
    return str(path)


@pytest.mark.parametrize('sampler', SAMPLERS.values())
def test_nothing_is_read_on_the_way_to_a_late_iteration(sampler: str, tmp_path: Path) -> None:
    late, items = 150_000, 20_000
    config = noisy_config(
        tmp_path / 'late',
        load_from=saved_at(late, tmp_path / 'first'),
        resume=True,
        train_cfg={'by_epoch': False, 'max_iters': late + 1},
    )
    config['train_dataloader'].update(
        dataset={'type': 'NoisyNumbers', 'items': items}, sampler={'type': sampler}
    )
    start = time.monotonic()
    runner = train(config)
    assert time.monotonic() - start < 30  # 0.5 s alone; reading the data would take hours
    assert runner.iter == late + 1
    assert len(runner.train_dataloader.dataset.read) == BATCH


def test_the_right_samples_of_a_finite_sampler(tmp_path: Path) -> None:
    """Iteration 7 of epochs of five batches is the third of the second, in order of the indices."""
    config = noisy_config(tmp_path / 'a', load_from=saved_at(7, tmp_path / 'b'), resume=True)
    config['train_dataloader']['sampler'] = {'type': 'DefaultSampler', 'shuffle': False}
    config['train_cfg']['max_iters'] = 11
    assert train(config).train_dataloader.dataset.read == [4, 5, 6, 7, 8, 9, 0, 1]


def test_another_length_of_the_epoch_starts_it_again(tmp_path: Path) -> None:
    train(variant('epochs', tmp_path / 'a'))
    config = variant('epochs', tmp_path / 'b', load_from=str(tmp_path / 'a/iter_7.pth'))
    config['train_dataloader']['batch_size'] = 5
    runner = train({**config, 'resume': True})
    assert len(runner.train_dataloader.dataset.read) == 2 * ITEMS


def test_log_of_a_resumed_epoch_counts_from_its_position(tmp_path: Path) -> None:
    train(variant('epochs', tmp_path / 'a'))
    config = variant('epochs', tmp_path / 'b', load_from=str(tmp_path / 'a/iter_8.pth'))
    config['default_hooks']['logger'] = {'type': 'LoggerHook', 'interval': 1}
    train({**config, 'resume': True})
    (log,) = (tmp_path / 'b').glob('*/*.log')
    seen = [line for line in log.read_text().splitlines() if 'Epoch(train)' in line]
    assert '[2][4/5]' in seen[0]
    assert '[3][5/5]' in seen[-1]


def test_another_batch_size_and_an_end_that_is_reached_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(train_loader, 'print_log', lambda text, *_: seen.append(text))
    file = saved_at(7, tmp_path / 'first')
    config = noisy_config(tmp_path / 'a', load_from=file, resume=True)
    config['train_dataloader']['batch_size'] = BATCH + 1
    train(config)
    assert len(seen) == 1
    assert f'had {BATCH} samples per iteration and continues with {BATCH + 1}' in seen[0]
    limits = {'by_epoch': False, 'max_iters': 7}
    train(noisy_config(tmp_path / 'b', load_from=file, resume=True, train_cfg=limits))
    assert seen[1:] == ['Iteration 7 of 7 is reached: nothing is trained.']
