"""Say why a worker process of a data loader died.

torch raises the error of a dead worker wherever the main process is at that moment, so that its
stack says nothing.
"""

import re
import shutil

__all__ = ['dead_worker']

_PATTERN = re.compile(
    r'DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) '
    r'(?:is killed by signal: (?P<signal>[\w ]+)|exited unexpectedly)'
)
_SHARED_MEMORY = '/dev/shm'


def dead_worker(error: BaseException | None) -> str | None:
    """Return the cause and what to do if `error` came of a dead worker, else None."""
    message = None
    while error is not None:  # the signal may be named by an earlier error of the chain alone
        if found := _PATTERN.match(str(error)):
            message = f'A data loader worker (pid {found[1]}) {_reason(found["signal"])}'
            if found['signal']:
                break
        error = error.__cause__ or error.__context__
    return message


def _reason(signal: str | None) -> str:
    if signal == 'Killed':
        return (
            'was killed (SIGKILL), most often because memory ran out.\nLower num_workers, '
            'prefetch_factor or batch_size of the data loader, or give the machine or the job more '
            'memory; `dmesg` names the process.'
        )
    if signal and signal.startswith('Bus error'):
        return (
            f'died of a bus error (SIGBUS): shared memory is full{_free()}.\nLower num_workers, '
            'prefetch_factor or batch_size of the data loader, or enlarge it (docker run '
            '--shm-size=8g).'
        )
    how = f'died of the signal "{signal}"' if signal else 'exited without an error message'
    return (
        f'{how}.\nRun again with --cfg-options train_dataloader.num_workers=0 '
        'train_dataloader.persistent_workers=False (or val_, test_) to see the error itself.'
    )


def _free() -> str:
    try:
        usage = shutil.disk_usage(_SHARED_MEMORY)
    except OSError:
        return ''
    return f' ({_SHARED_MEMORY} has {usage.free >> 20} of {usage.total >> 20} MiB left)'
