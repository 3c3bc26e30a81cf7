"""Trainings that are killed or stopped at random moments, as processes."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from noisy_training import assert_same
from processes import LIMIT, ROOT, TRAIN, run, start, wait_for

from examples.streets import DemoSpec, write_demo_dataset
from vit_dense.compat.safe_load import safe_load

KILLS = 10
STEPS = 30
CONFIG = f"""
_base_ = {str(ROOT / 'configs' / 'vit_upernet_demo.py')!r}
model = dict(
    backbone=dict(vit=dict(drop_path_rate=0.3)),
    decode_head=dict(dropout_ratio=0.3), auxiliary_head=dict(dropout_ratio=0.3))
train_dataloader = dict(batch_size=2, num_workers=2)
val_dataloader = dict(num_workers=0, persistent_workers=False)
train_cfg = dict(max_iters={STEPS}, val_interval=10)
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=3), logger=dict(interval=1))
"""
CHECKPOINT = f'iter_{STEPS}.pth'


@pytest.fixture(scope='module')
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, a config, and an uninterrupted training of it in `whole`."""
    folder = tmp_path_factory.mktemp('killed')
    write_demo_dataset(folder / 'data/demo', DemoSpec(6, 2, 64, 80))
    (folder / 'small.py').write_text(CONFIG)
    done = run(TRAIN, 'small.py', '--work-dir', 'whole', cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def train(project: Path, work: str) -> subprocess.Popen[str]:
    """Starts or resumes a training in a process group of its own, as a shell does."""
    options = ['--resume'] if (project / work).exists() else ['--seed', seed_of(project)]
    return start(TRAIN, 'small.py', '--work-dir', work, *options, cwd=project, own_group=True)


def seed_of(project: Path) -> int:
    return int(safe_load(project / 'whole' / CHECKPOINT)['meta']['seed'])


def wait_for_step(project: Path, work: str, process: subprocess.Popen[str]) -> None:
    """Returns when a checkpoint is newer than the process."""
    began = time.time()
    deadline = time.monotonic() + LIMIT
    while process.poll() is None and time.monotonic() < deadline:
        files = (project / work).glob('iter_*.pth')
        if any(one.stat().st_mtime > began for one in files if one.exists()):
            return
        time.sleep(0.02)


@pytest.mark.slow
def test_ten_kills_change_no_bit(project: Path) -> None:
    """Dropout, drop path and two workers; kills may hit a step, a save or a validation."""
    moments = random.Random(0)
    kills = 0
    for attempt in range(3 * KILLS):
        process = train(project, 'killed')
        if kills < KILLS:
            if attempt % 3:  # the others at any moment of the start
                wait_for_step(project, 'killed', process)
                time.sleep(moments.uniform(0, 1.0))
            else:
                time.sleep(moments.uniform(5, 15))
            kills += process.poll() is None
            process.kill()
        _, errors = process.communicate(timeout=LIMIT)
        assert process.returncode in (0, -signal.SIGKILL), errors
        if process.returncode == 0:
            break
    assert kills >= KILLS, f'only {kills} before the training ended'
    assert_same(project / 'whole' / CHECKPOINT, project / 'killed' / CHECKPOINT)


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_signals_to_the_group_save_and_resume(project: Path, number: signal.Signals) -> None:
    """As Ctrl-C and batch systems send them: to the workers, too, which leave no trace."""
    work = number.name
    process = train(project, work)
    wait_for(project / work / 'iter_3.pth', process)
    os.killpg(process.pid, number)
    output, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 128 + number
    assert 'Traceback' not in errors
    lines = [line for line in (output + errors).splitlines() if f'{number.name}: ' in line]
    assert len(lines) == 1
    assert 'interrupted_iter_' in lines[0]
    done = train(project, work)
    _, errors = done.communicate(timeout=LIMIT)
    assert done.returncode == 0, errors
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
