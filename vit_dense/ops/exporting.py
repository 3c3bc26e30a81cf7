"""Which operators an exported graph samples with, while it is traced."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Sampling = Literal['grid_sample', 'gather']

# A plain global: torch.compile reads it without breaking the graph.
_sampling: Sampling | None = None


@contextmanager
def export_sampling(sampling: Sampling) -> Iterator[None]:
    """Trace deformable attention with these operators instead of the backend of the device.

    Args:
        sampling: 'grid_sample', or 'gather' for engines without an exact GridSample.
    """
    global _sampling
    before, _sampling = _sampling, sampling
    try:
        yield
    finally:
        _sampling = before


def exported_sampling() -> Sampling | None:
    """Return the argument of `export_sampling`, or None outside of it."""
    return _sampling
