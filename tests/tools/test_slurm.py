"""The template for SLURM, with stubs of its commands: what is started, and what a warning does."""

import os
import signal
import subprocess
import time
from pathlib import Path

from processes import ROOT

SCRIPT = ROOT / 'tools/slurm/train.sbatch'
STUBS = {
    'scontrol': '[ "$1" = show ] && echo "first\nsecond" || echo "$@" > requeued',
    'srun': 'while [[ $1 == --* ]]; do shift; done; exec "$@"',
    'pkill': 'echo "$@" > stopped; rm wait',
    'torchrun': 'echo "$@" > started\nwhile [ -f wait ]; do sleep 0.02; done; exit 7',
}
JOB = {'SLURM_JOB_NODELIST': 'n[1-2]', 'SLURM_JOB_NUM_NODES': '2', 'SLURM_JOB_ID': '42'}


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    commands = folder / 'bin'
    commands.mkdir()
    for name, text in STUBS.items():
        (commands / name).write_text(f'#!/bin/bash\n{text}\n')
        (commands / name).chmod(0o755)
    return subprocess.Popen(
        ['bash', str(SCRIPT), *arguments],
        cwd=folder,
        env={**os.environ, **JOB, 'SLURM_GPUS_ON_NODE': '8', 'PATH': f'{commands}:/bin:/usr/bin'},
        text=True,
        stderr=subprocess.PIPE,
    )


def test_every_machine_starts_torchrun(tmp_path: Path) -> None:
    """And the job has the exit code of the training."""
    job = start(tmp_path, 'my config.py', '--amp')
    assert job.wait(30) == 7, job.communicate()
    assert (tmp_path / 'started').read_text().split() == [
        '--nnodes=2', '--nproc_per_node=8', '--rdzv_id=42', '--rdzv_backend=c10d',
        '--rdzv_endpoint=first:29500', 'tools/train.py', 'my', 'config.py', '--amp',
        '--launcher', 'pytorch', '--resume',
    ]  # fmt: skip
    assert not (tmp_path / 'requeued').exists()


def test_before_the_time_limit_the_job_is_requeued(tmp_path: Path) -> None:
    (tmp_path / 'wait').touch()
    job = start(tmp_path, 'config.py')
    deadline = time.monotonic() + 30
    while not (tmp_path / 'started').exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.2)  # until the script waits
    job.send_signal(signal.SIGUSR1)
    assert job.wait(30) == 0, job.communicate()
    assert (tmp_path / 'stopped').read_text() == '-TERM -f -- -u tools/train\\.py\n'
    assert (tmp_path / 'requeued').read_text() == 'requeue 42\n'


def test_without_config(tmp_path: Path) -> None:
    job = start(tmp_path)
    assert 'CONFIG' in job.communicate(timeout=30)[1]
    assert job.returncode == 2
