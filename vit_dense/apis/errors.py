"""A user's mistake ends in its message, not in forty lines of somebody else's stack."""

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

_PACKAGE = str(Path(__file__).resolve().parents[1]) + os.sep
_DEBUG_VARIABLE = 'VIT_DENSE_DEBUG'
# Worker processes of a data loader hand over their error as text, the stack included.
_WORKER_PREFIX = 'Caught ValueError in DataLoader worker process'
_USAGE_ERROR = 2


def run_cleanly(work: Callable[[], object], *, debug: bool = False) -> int:
    """Runs `work` and returns a process exit code.

    The house rule is that a user's mistake raises `ValueError` with all that is needed to correct
    it. Such errors, raised by this package's own code, are written to stderr as they are; anything
    else, and everything with `debug` or the environment variable VIT_DENSE_DEBUG, keeps its stack.

    Args:
        work: What to do.
        debug: Let every error through.

    Returns:
        0, or 2 after a user's mistake.
    """
    if debug or os.environ.get(_DEBUG_VARIABLE):
        work()
        return 0
    try:
        work()
    except (ValueError, FileNotFoundError) as error:
        message = user_message(error)
        if message is None:
            raise
        sys.stderr.write(f'\nError: {message}\n(--debug shows where it was raised)\n')
        return _USAGE_ERROR
    return 0


def user_message(error: Exception) -> str | None:
    """Returns the message if the package's own code raised `error`, else None."""
    text = str(error)
    if text.startswith(_WORKER_PREFIX) and _PACKAGE in text:
        return text.rsplit('\nValueError: ', 1)[-1].strip()
    frames = traceback.extract_tb(error.__traceback__)
    if frames and os.path.abspath(frames[-1].filename).startswith(_PACKAGE):
        return text
    return None
