"""Which operators an exported graph samples with, while it is traced."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

Sampling = Literal['grid_sample', 'gather']

_sampling: ContextVar[Sampling | None] = ContextVar('sampling', default=None)


@contextmanager
def export_sampling(sampling: Sampling) -> Iterator[None]:
    """Trace deformable attention with these operators instead of the backend of the device.

    Args:
        sampling: 'grid_sample', or 'gather' for engines without an exact GridSample.
    """
    token = _sampling.set(sampling)
    try:
        yield
    finally:
        _sampling.reset(token)


def exported_sampling() -> Sampling | None:
    """Return the argument of `export_sampling`, or None outside of it."""
    return _sampling.get()
