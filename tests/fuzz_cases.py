"""Seeded cases for the fuzz tests, and the judgement of what a case may end in.

`VIT_DENSE_FUZZ_SEED` (default 0) and `VIT_DENSE_FUZZ_CASES` (a factor of the number of cases,
default 1) search further. A failure names its case; the same seed and case give it again.
"""

import os
import random
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from vit_dense.apis.errors import user_message

SEED = os.environ.get('VIT_DENSE_FUZZ_SEED', '0')
_FACTOR = float(os.environ.get('VIT_DENSE_FUZZ_CASES', '1'))
_SECONDS = 30


class UnclearError(AssertionError):
    """An outcome that is neither success nor one clear message."""


def cases(count: int) -> pytest.MarkDecorator:
    """Parametrise a test by the number of its case."""
    return pytest.mark.parametrize('case', range(max(1, round(count * _FACTOR))))


def numbers(kind: str, case: int) -> random.Random:
    """Return the source of all random choices of a case."""
    return random.Random(f'{SEED} {kind} {case}')


def refusal(
    work: Callable[[], Any],
    case: str,
    *,
    named: tuple[str, ...] = (),
    accepted: tuple[str, ...] = (),
) -> str | None:
    """Run a case; return None after success, or the message that a user reads.

    Args:
        work: The case.
        case: What was tried, for failures.
        named: The message must hold one of these words, if there are any.
        accepted: Patterns of clear errors of other libraries, `Type: message`.

    Raises:
        UnclearError: The case took too long or ended in any other error.
    """
    try:
        with _time_limit():
            work()
    except UnclearError as error:
        raise UnclearError(f'{case}: {error}') from error
    except Exception as error:
        text = f'{type(error).__name__}: {error}'
        if any(re.match(pattern, text, re.DOTALL) for pattern in accepted):
            return text
        message = user_message(error)
        if message is None:
            raise UnclearError(f'{case}: a foreign error, {text}') from error
        if named and not any(word in message for word in named):
            raise UnclearError(f'{case}: the message names none of {named}: {message}') from error
        return message
    return None


@contextmanager
def _time_limit() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise UnclearError(f'no end within {_SECONDS} s')

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
