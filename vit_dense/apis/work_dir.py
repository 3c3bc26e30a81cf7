"""Let one training at a time use a work directory."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from mmengine.logging import print_log

# Longer than the 5 s that workers of a killed training may take to end.
_PATIENCE = 6
# Where launchers tell a process its rank, which is known before the processes are connected.
_RANKS = {'pytorch': 'RANK', 'slurm': 'SLURM_PROCID', 'mpi': 'OMPI_COMM_WORLD_RANK'}


def make_work_dir(folder: str | os.PathLike[str]) -> None:
    """Make a work directory, if it does not exist.

    Raises:
        ValueError: It cannot be made, or nothing can be written in it.
    """
    reason = 'no permission, or a read-only disk'
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK | os.X_OK):
            return
    except OSError as error:
        reason = error.strerror or reason
    raise ValueError(
        f'The work directory {folder} cannot be written ({reason}): give another --work-dir.'
    )


@contextmanager
def lock_work_dir(folder: str, launcher: str = 'none') -> Iterator[None]:
    """Hold a lock on a work directory, in the main process; the system frees it after a kill.

    Raises:
        ValueError: Another training holds it, or nothing can be written in the directory.
    """
    make_work_dir(folder)
    if os.environ.get(_RANKS.get(launcher, ''), '0') != '0':
        yield
        return
    path = Path(folder, '.training.lock')
    lock = FileLock(path)
    try:
        lock.acquire(timeout=_PATIENCE)
    except Timeout:
        alone = launcher == 'none' and 'TORCHELASTIC_RUN_ID' in os.environ
        raise ValueError(
            f'Another training is running in {folder}: both would overwrite checkpoints. '
            + (
                'Give torchrun --launcher pytorch, so that its processes train together.'
                if alone
                else 'Wait for its end, or give another --work-dir.'
            )
        ) from None
    except (OSError, NotImplementedError) as error:
        text = f'{folder} cannot be locked ({error}): do not start a second training in it.'
        print_log(text, logger='current', level=logging.WARNING)
    try:
        yield
    finally:
        lock.release()
