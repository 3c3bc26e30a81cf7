"""torchrun restarts its processes after one was killed, and the training continues to its end."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
import torch
from processes import LIMIT, ROOT, TRAIN, start, torchrun

from examples.streets import CLASSES, PALETTE, DemoSpec, write_demo_dataset

CONFIG = """
_base_ = {base!r}
data = dict(
    _delete_=True, type='CheckedSegDataset', data_root={data!r}, img_suffix='.png',
    metainfo=dict(classes={classes!r}, palette={palette!r}),
    data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
    pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
              dict(type='PackSegInputs')])
train_dataloader = dict(batch_size=1, num_workers=0, persistent_workers=False, dataset=data)
model = dict(decode_head=dict(dropout_ratio=0), auxiliary_head=dict(dropout_ratio=0))
val_dataloader = val_cfg = val_evaluator = None
train_cfg = dict(max_iters=30, val_interval=99)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=5, save_best=None))
"""
OPTIONS = ('--launcher', 'pytorch', '--seed', 0, '--resume')


@pytest.mark.slow
def test_a_killed_process_is_restarted(tmp_path: Path) -> None:
    """From the last checkpoint, with the weights of a training without the fault.

    `--resume` also stands at the first start, where there is no checkpoint.
    """
    data = write_demo_dataset(tmp_path / 'data', DemoSpec(6, 1, 64, 80))
    base = str(ROOT / 'configs/vit_upernet_demo.py')
    text = CONFIG.format(base=base, data=str(data), classes=CLASSES, palette=PALETTE)
    (tmp_path / 'small.py').write_text(text)
    whole = torchrun(TRAIN, 'small.py', '--work-dir', 'whole', *OPTIONS, cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr

    options = (
        '--standalone',
        '--nproc_per_node',
        2,
        '--max-restarts',
        3,
    )  # gloo sometimes fails to connect
    command = ('-m', 'torch.distributed.run', *options, TRAIN, 'small.py', '--work-dir', 'cut')
    running = start(*command, *OPTIONS, cwd=tmp_path)
    deadline = time.monotonic() + LIMIT
    while not (tmp_path / 'cut/last_checkpoint').is_file():
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(worker_of(running.pid), signal.SIGKILL)
    output, errors = running.communicate(timeout=LIMIT)
    assert running.returncode == 0, errors
    resumed = re.findall(r'resumed epoch: 0, iter: (\d+)', output + errors)
    assert resumed, errors
    assert 0 < int(resumed[0]) < 30

    expected, found = (torch.load(tmp_path / name / 'iter_30.pth') for name in ('whole', 'cut'))
    assert found['meta']['iter'] == 30
    for name, weight in expected['state_dict'].items():
        assert torch.equal(weight, found['state_dict'][name]), name


def worker_of(agent: int) -> int:
    """Returns the last of the processes that torchrun has started."""
    children = Path(f'/proc/{agent}/task/{agent}/children').read_text().split()
    named = {pid: Path(f'/proc/{pid}/cmdline').read_bytes() for pid in children}
    return max(int(pid) for pid, line in named.items() if b'train.py' in line)
