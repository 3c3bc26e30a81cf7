"""Say why a process that the main process needs has ended.

PyTorch raises the error of a data loader's worker wherever the main process is at that moment, and
that of another rank in the next collective operation, so that their stacks say nothing.
"""

import re

from torch import distributed

__all__ = ['lost_process']

_WORKER = re.compile(
    r'DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) '
    r'(?:is killed by signal: ([\w ]+)|exited unexpectedly)'
)
_LOWER = 'Lower num_workers, prefetch_factor or batch_size of the data loader, or'
_SIGNALS = {
    'Killed': 'was killed (SIGKILL), most often because memory ran out.\n'
    f'{_LOWER} give the machine or the job more memory; `dmesg` names the process.',
    'Bus error': 'died of a bus error (SIGBUS): shared memory (/dev/shm) is full.\n'
    f'{_LOWER} enlarge it (docker run --shm-size=8g).',
}
# Parts of PyTorch's errors: of gloo, of NCCL, and of the store.
_RANK = re.compile(
    r'[Cc]onnection (?:closed|reset) by peer|Broken pipe|caused pair closure|[Tt]imed out'
    r'|remote process exited|Socket Timeout|failed to recv'
)


def lost_process(error: BaseException) -> str | None:
    """Return the cause and what to do if `error` came of the end of a process, else None."""
    if isinstance(error, RuntimeError) and distributed.is_initialized():
        found = None if 'DataLoader' in str(error) else _RANK.search(str(error))
        if found:
            return (
                f'Another process of this run has ended or hangs ({found[0]}): its own last lines '
                'say why. Continue with --resume, or let torchrun --max-restarts=N restart all.'
            )
    workers: list[re.Match[str]] = []
    one: BaseException | None = error
    while one is not None:  # the signal may be named by an earlier error of the chain alone
        workers += [found] if (found := _WORKER.match(str(one))) else []
        one = one.__cause__ or one.__context__
    if not workers:
        return None
    pid, signal = next((one for one in workers if one[2]), workers[0]).groups()
    how = f'died of the signal "{signal}"' if signal else 'exited without an error message'
    reason = _SIGNALS.get(
        signal,
        f'{how}.\nRun again with --cfg-options train_dataloader.num_workers=0 '
        'train_dataloader.persistent_workers=False (or val_, test_) to see the error itself.',
    )
    return f'A data loader worker (pid {pid}) {reason}'
