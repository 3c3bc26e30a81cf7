"""Runs the tools as users do, and reads what they leave behind."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import distributed, multiprocessing

ROOT = Path(__file__).resolve().parents[1]
TRAIN = ROOT / 'tools/train.py'
TEST = ROOT / 'tools/test.py'
LIMIT = 300  # seconds for one process


def start(*command: object, cwd: Path, own_group: bool = False) -> subprocess.Popen[str]:
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get('PYTHONPATH'))))
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env={**os.environ, 'PYTHONPATH': path, 'OMP_NUM_THREADS': '1'},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=own_group,
    )


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    process = start(*command, cwd=cwd)
    output, errors = process.communicate(timeout=LIMIT)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + LIMIT
    while not path.is_file():
        assert process.poll() is None or path.is_file(), process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def losses(work_dir: Path) -> list[float]:
    """Losses of all runs in a work directory, in the order of time."""
    found = []
    for scalars in sorted(work_dir.glob('*/vis_data/scalars.json')):
        lines = [json.loads(line) for line in scalars.read_text().splitlines()]
        found += [line['loss'] for line in lines if 'loss' in line]
    return found


def torchrun(*command: object, cwd: Path, count: int = 2) -> subprocess.CompletedProcess[str]:
    """Runs one of the tools in several processes of this machine."""
    options = ('--standalone', '--nproc_per_node', count)
    return run('-m', 'torch.distributed.run', *options, *command, cwd=cwd)


def in_two_processes(work: Callable[[int], Any], folder: Path) -> list[Any]:
    """Calls `work(rank)` in two connected processes, forked: without gradients."""
    multiprocessing.start_processes(_work, args=(work, str(folder)), nprocs=2, start_method='fork')
    return [torch.load(folder / f'{rank}.pth', weights_only=False) for rank in (0, 1)]


def _work(rank: int, work: Callable[[int], Any], folder: str) -> None:
    store = f'file://{folder}/store'
    distributed.init_process_group('gloo', init_method=store, rank=rank, world_size=2)
    torch.save(work(rank), f'{folder}/{rank}.pth')
    distributed.destroy_process_group()
