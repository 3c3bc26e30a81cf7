"""Looking through wrappers: of models (DDP, FSDP, test-time augmentation) and of data sets."""

from collections.abc import Iterator
from typing import Any

from torch import nn


def unwrap(model: nn.Module) -> nn.Module:
    """Returns what stands behind `.module`, however many times."""
    while isinstance(inner := getattr(model, 'module', None), nn.Module):
        model = inner
    return model


def iter_datasets(dataset: Any) -> Iterator[Any]:
    """Yields the data sets inside concatenation, repetition and the like; else the one given."""
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    if inner == [None]:
        yield dataset
        return
    for one in inner:
        yield from iter_datasets(one)


def check_task(dataset: Any, split: str, *, wanted: str, other: str, advice: str) -> None:
    """Refuses a data set made for another library's task.

    Args:
        dataset: One without wrappers.
        split: Which one it is, for the message.
        wanted: What the config trains, such as 'a detector'.
        other: Import name of the library that must not be among the data set's classes.
        advice: What to do instead.

    Raises:
        ValueError: The data set's class belongs to `other`.
    """
    if any(kind.__module__.split('.')[0] == other for kind in type(dataset).__mro__):
        raise ValueError(
            f'The config builds {wanted}, but its {split} data set {type(dataset).__name__} is one '
            f'of {other}. {advice}'
        )
