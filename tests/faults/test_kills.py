"""Trainings that are killed or stopped at random moments, as processes."""

import contextlib
import multiprocessing
import os
import random
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from noisy_training import assert_same, noisy_config, train
from processes import LIMIT, ROOT, TRAIN, run, start, wait_for

from examples.streets import DemoSpec, write_demo_dataset
from vit_dense.compat.safe_load import safe_load

KILLS = 10
TOTAL = 800  # iterations, more than ten killed starts reach
STEPS = 8
CONFIG = f"""
_base_ = {str(ROOT / 'configs' / 'vit_upernet_demo.py')!r}
model = dict(
    backbone=dict(vit=dict(drop_path_rate=0.3)),
    decode_head=dict(dropout_ratio=0.3), auxiliary_head=dict(dropout_ratio=0.3))
train_dataloader = dict(batch_size=2, num_workers=2)
val_dataloader = dict(num_workers=0, persistent_workers=False)
train_cfg = dict(max_iters={STEPS}, val_interval=4)
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=3), logger=dict(interval=1))
"""
CHECKPOINT = f'iter_{STEPS}.pth'


@pytest.fixture(scope='module')
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and a config."""
    folder = tmp_path_factory.mktemp('stopped')
    write_demo_dataset(folder / 'data/demo', DemoSpec(6, 2, 64, 80))
    (folder / 'small.py').write_text(CONFIG)
    return folder


def fork_training(folder: Path, work: str) -> BaseProcess:
    """Starts or resumes a small training in a process that has imported all it needs."""

    def job() -> None:
        output = os.open(folder / 'output.txt', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        limits = {'by_epoch': False, 'max_iters': TOTAL}
        train(noisy_config(folder / work, workers=2, train_cfg=limits, resume=True))

    process = multiprocessing.get_context('fork').Process(target=job)
    process.start()
    return process


def wait_for_step(folder: Path, process: BaseProcess) -> None:
    """Returns when the process has ended or has written a checkpoint."""
    began = time.time()
    while process.is_alive() and time.time() < began + LIMIT:
        if any(one.stat().st_mtime > began for one in folder.glob('iter_*.pth')):
            return
        time.sleep(0.001)


@pytest.mark.slow
def test_ten_kills_change_no_bit(tmp_path: Path) -> None:
    """Dropout, drop path and two workers; kills hit starts, steps and saves; no seed is given."""
    moments = random.Random(0)
    for kill in range(KILLS):
        process = fork_training(tmp_path, 'killed')
        if kill % 3:  # the others at any moment from the start
            wait_for_step(tmp_path / 'killed', process)
        time.sleep(moments.uniform(0, 0.05 if kill % 3 else 1))
        assert process.is_alive(), f'it ended after {kill} kills'
        process.kill()
        process.join()
    process = fork_training(tmp_path, 'killed')
    process.join(LIMIT)
    assert process.exitcode == 0, (tmp_path / 'output.txt').read_text()[-2000:]
    name = f'iter_{TOTAL}.pth'
    whole = noisy_config(tmp_path / 'whole', train_cfg={'by_epoch': False, 'max_iters': TOTAL})
    seed = safe_load(tmp_path / 'killed' / name)['meta']['seed']
    train({**whole, 'randomness': {'seed': seed}})
    assert_same(tmp_path / 'whole' / name, tmp_path / 'killed' / name)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, 'sigtimedwait'), reason='Linux')
def test_workers_end_with_a_killed_training(tmp_path: Path) -> None:
    """Also those that wait for it to read samples larger than a pipe."""
    (tmp_path / 'load.py').write_text(
        'import functools, os, signal, time\n'
        'from torch.utils.data import DataLoader\n'
        'from vit_dense.engine.stop_signal import _init_worker\n'
        'start = functools.partial(_init_worker, None, [signal.SIGTERM])\n'
        'data = [b"0" * 2**20] * 9\n'
        'batches = iter(DataLoader(data, batch_size=None, num_workers=2, worker_init_fn=start))\n'
        'next(batches)\n'
        'time.sleep(1)\n'
        'os.kill(os.getpid(), signal.SIGKILL)\n'
    )
    process = start('load.py', cwd=tmp_path, own_group=True)
    assert process.wait(LIMIT) == -signal.SIGKILL
    try:
        process.communicate(timeout=10)  # until the last process that has these pipes has ended
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_signals_to_the_group_save_and_resume(project: Path, number: signal.Signals) -> None:
    """As Ctrl-C and batch systems send them: to the workers, too, which leave no trace."""
    work = number.name
    command = (TRAIN, 'small.py', '--work-dir', work, '--seed', 0)
    process = start(*command, cwd=project, own_group=True)
    wait_for(project / work / 'iter_2.pth', process)
    os.killpg(process.pid, number)
    output, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 128 + number
    assert 'Traceback' not in errors
    lines = [line for line in (output + errors).splitlines() if f'{number.name}: ' in line]
    assert len(lines) == 1
    assert 'interrupted_iter_' in lines[0]
    done = run(*command, '--resume', cwd=project)
    assert done.returncode == 0, done.stderr
    whole = run(TRAIN, 'small.py', '--work-dir', 'whole', '--seed', 0, cwd=project)
    assert whole.returncode == 0, whole.stderr
    assert_same(project / 'whole' / CHECKPOINT, project / work / CHECKPOINT)


@pytest.mark.slow
def test_a_second_signal_ends_at_once(project: Path) -> None:
    """The data take a minute a sample, so that no step ends."""
    slow = project / 'slow.py'
    slow.write_text(
        "_base_ = './small.py'\n"
        "custom_imports = dict(imports=['vit_dense.segmentation', 'sleeping'])\n"
        'train_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict('
        'pipeline=[dict(type="Sleep"), *_base_.train_pipeline]))\n'
    )
    (project / 'sleeping.py').write_text(
        'import pathlib, time\n'
        'from mmengine.registry import TRANSFORMS\n'
        '@TRANSFORMS.register_module()\n'
        'class Sleep:\n'
        '    def __call__(self, results):\n'
        '        pathlib.Path("asleep").touch()\n'
        '        for _ in range(600):\n'
        '            time.sleep(0.1)\n'
        '        return results\n'
    )
    process = start(TRAIN, 'slow.py', '--work-dir', 'slow', cwd=project, own_group=True)
    wait_for(project / 'asleep', process)
    os.killpg(process.pid, signal.SIGTERM)
    time.sleep(2)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(timeout=10) == -signal.SIGTERM
