"""Real processes, real kills and limits: a sound checkpoint exists at every moment."""

import os
import random
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from processes import LIMIT, TEST, TRAIN, run, start, wait_for
from tiny_training import tiny_config, tiny_runner

from vit_dense.compat.resuming import find_latest_checkpoint
from vit_dense.compat.safe_load import safe_load

pytestmark = pytest.mark.slow

SAVING = {'type': 'CheckpointHook', 'by_epoch': False, 'interval': 1, 'max_keep_ckpts': 1}
KILLS = 25


def iteration(path: str | Path) -> int:
    return int(safe_load(path)['meta']['iter'])


def train_forever(work: Path) -> None:
    """Train in a child process, which saves nearly all of the time."""
    try:
        tiny_runner(
            work,
            model={'type': 'LargeState'},
            train_cfg={'by_epoch': False, 'max_iters': 10**6, 'val_interval': 10**6},
            default_hooks={
                'checkpoint': SAVING,
                'logger': {'type': 'LoggerHook', 'interval': 10**6},
            },
            resume=True,
        ).train()
    finally:
        os._exit(1)


def test_killed_while_saving(tmp_path: Path) -> None:
    """At random moments of 25 runs, each of which resumes the one before."""
    work, moments = tmp_path / 'work', random.Random(0)
    last, unfinished = 0, 0
    for number in range(KILLS):
        child = os.fork()
        if child == 0:
            train_forever(work)
        record, deadline = work / 'last_checkpoint', time.monotonic() + LIMIT
        before = record.stat().st_mtime_ns if number else 0
        while not record.is_file() or record.stat().st_mtime_ns == before:
            assert time.monotonic() < deadline
            assert os.waitpid(child, os.WNOHANG)[0] == 0, 'it ended by itself'
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.3))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        files = list(work.glob('*.pth'))
        for path in files:
            safe_load(path)
        # A kill between saving and deleting leaves one file more.
        assert len(files) <= number + 2
        found = find_latest_checkpoint(work)
        assert found is not None
        assert iteration(found) > last
        last = iteration(found)
        unfinished += len(list(work.glob('.*.tmp')))
    assert unfinished > KILLS / 10, 'few kills came while a file was written'


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The config of a training of 300 steps, which saves each tenth."""
    monkeypatch.setenv('PYTHONPATH', str(Path(__file__).parents[1]))
    content: dict[str, Any] = {
        **tiny_config(tmp_path / 'unused'),
        'custom_imports': {'imports': ['tiny_training'], 'allow_failed_imports': False},
        'model': {'type': 'LargeState'},
        'optim_wrapper': {'optimizer': {'type': 'SGD', 'lr': 1e-4, 'momentum': 0.9}},
        'train_cfg': {'by_epoch': False, 'max_iters': 300, 'val_interval': 300},
        'test_dataloader': tiny_config(tmp_path)['val_dataloader'],
        'test_cfg': {},
        'test_evaluator': [],
        'default_hooks': {
            'checkpoint': {**SAVING, 'interval': 10, 'max_keep_ckpts': 3},
            'checkpoint_check': {'type': 'CheckpointCheckHook'},
        },
        'experiment_name': None,
    }
    path = tmp_path / 'small.py'
    Config(content).dump(path)
    return path


def limit_files(process: subprocess.Popen[str], size: int) -> None:
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, size))


def resumed(work: Path, done: subprocess.CompletedProcess[str]) -> int:
    """Return the iteration that a whole training was resumed at."""
    assert done.returncode == 0, done.stderr
    assert iteration(work / 'iter_300.pth') == 300
    text = next(line for line in done.stdout.splitlines() if 'resumed epoch' in line)
    return int(text.rsplit('iter: ', 1)[1])


def test_full_disk_then_second_run_then_kill(config: Path, tmp_path: Path) -> None:
    work = tmp_path / 'work'
    command = (TRAIN, config, '--work-dir', work)
    first = start(*command, cwd=tmp_path)
    wait_for(work / 'last_checkpoint', first)
    limit_files(first, 1_000_000)
    _, errors = first.communicate(timeout=LIMIT)
    assert first.returncode == 2, errors
    assert f'\nError: Cannot write {work / "iter_"}' in errors
    assert 'File too large (about 16,0' in errors
    assert 'Traceback' not in errors
    assert not list(work.glob('.*.tmp'))
    sound = find_latest_checkpoint(work)
    assert sound is not None

    second = start(*command, '--resume', cwd=tmp_path)
    wait_for(work / f'iter_{iteration(sound) + 10}.pth', second)
    second.send_signal(signal.SIGSTOP)  # it holds its lock however long the third takes
    third = run(*command, '--resume', cwd=tmp_path)
    assert third.returncode == 2
    assert f'Another training is running in {work}' in third.stderr
    second.kill()
    second.communicate()
    sound = find_latest_checkpoint(work)
    assert sound is not None
    expected = iteration(sound)  # the file is deleted later
    assert resumed(work, run(*command, '--resume', cwd=tmp_path)) == expected


def flip(path: Path) -> None:
    content = np.fromfile(path, np.uint8)
    places = np.random.default_rng(0).choice(len(content) // 2, 400, replace=False)
    content[len(content) // 4 + places] ^= 4
    content.tofile(path)


def test_damaged_and_moved(config: Path, tmp_path: Path) -> None:
    work, moved = tmp_path / 'work', tmp_path / 'elsewhere' / 'work'
    short = ('--cfg-options', 'train_cfg.max_iters=30')
    assert run(TRAIN, config, '--work-dir', work, *short, cwd=tmp_path).returncode == 0
    shutil.copytree(work, tmp_path / 'first')
    moved.parent.mkdir()
    work.rename(moved)
    flip(moved / 'iter_30.pth')
    done = run(TEST, config, moved / 'iter_30.pth', cwd=tmp_path)
    assert done.returncode == 2
    assert 'does not match its CRC-32' in done.stderr
    (moved / 'iter_20.pth').write_bytes((moved / 'iter_20.pth').read_bytes()[:-1000])
    done = run(TRAIN, config, '--work-dir', moved, '--resume', cwd=tmp_path)
    assert 'Passed over: iter_30.pth is damaged' in done.stdout + done.stderr
    assert resumed(moved, done) == 10

    first = tmp_path / 'first'
    before = sorted(path.name for path in first.rglob('*'))
    other = tmp_path / 'second'
    done = run(TRAIN, config, '--work-dir', other, '--resume', first / 'iter_20.pth', cwd=tmp_path)
    assert resumed(other, done) == 20
    assert sorted(path.name for path in first.rglob('*')) == before

    for path in first.glob('*.pth'):
        flip(path)
    done = run(TRAIN, config, '--work-dir', first, '--resume', cwd=tmp_path)
    assert done.returncode == 2
    assert f'No checkpoint in {first} can be resumed' in done.stderr
    assert sorted(path.name for path in first.glob('*.pth')) == [
        'iter_10.pth', 'iter_20.pth', 'iter_30.pth']  # fmt: skip


def test_weights_alone_and_nan_are_refused(config: Path, tmp_path: Path) -> None:
    done = run(TRAIN, config, '--work-dir', 'work', '--cfg-options', 'train_cfg.max_iters=10',
               cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    content = torch.load(tmp_path / 'work/iter_10.pth', weights_only=False)
    del content['optimizer']
    torch.save(content, tmp_path / 'weights.pth')
    done = run(TRAIN, config, '--work-dir', 'other', '--resume', 'weights.pth', cwd=tmp_path)
    assert done.returncode == 2
    assert 'has no optimizer' in done.stderr.splitlines()[-3]
    content['state_dict']['weight'].fill_(float('nan'))
    torch.save(content, tmp_path / 'weights.pth')
    done = run(TEST, config, 'weights.pth', cwd=tmp_path)
    assert done.returncode == 2
    assert 'NaN or infinity in 1 tensors' in done.stderr
