"""What to tell the user where a process waits for another one that has ended."""

import re

from torch import distributed

# Parts of PyTorch's errors: of gloo, of NCCL, and of the store.
_LOST = re.compile(
    r'[Cc]onnection (?:closed|reset) by peer|Broken pipe|caused pair closure|[Tt]imed out'
    r'|remote process exited|Socket Timeout|failed to recv'
)


def lost_process(error: Exception) -> str | None:
    """Return the message for `error`, or None if it has another cause."""
    found = _LOST.search(str(error)) if isinstance(error, RuntimeError) else None
    if found is None or not distributed.is_initialized():
        return None
    return (
        f'Another process of this run has ended ({found[0]}): its own last lines say why. '
        'Continue with --resume, or let torchrun --max-restarts=N restart all processes.'
    )
