"""Look inside wrappers: of models (DDP, FSDP, test-time augmentation) and of data sets."""

from collections.abc import Iterator
from typing import Any

from torch import nn


def unwrap(model: nn.Module) -> nn.Module:
    """Return the innermost model, following the attribute `module`."""
    while isinstance(inner := getattr(model, 'module', None), nn.Module):
        model = inner
    return model


def iter_datasets(dataset: Any) -> Iterator[Any]:
    """Yield the data sets inside concatenation, repetition and other wrappers, or `dataset`."""
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    if inner == [None]:
        yield dataset
        return
    for one in inner:
        yield from iter_datasets(one)
