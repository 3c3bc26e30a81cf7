"""Look inside wrappers: of models (DDP, FSDP, test-time augmentation) and of data sets."""

from collections.abc import Iterator
from typing import Any

from torch import nn


def unwrap(model: nn.Module) -> nn.Module:
    """Return the innermost model, following the attribute `module`."""
    while isinstance(inner := getattr(model, 'module', None), nn.Module):
        model = inner
    return model


def in_channels(model: nn.Module) -> int:
    """Return the number of channels of the images that the backbone takes; 3 if it does not say."""
    backbone = unwrap(model).backbone
    return int(getattr(getattr(backbone, 'vit', backbone), 'in_chans', 3))


def iter_datasets(dataset: Any) -> Iterator[Any]:
    """Yield the data sets inside concatenation, repetition and other wrappers, or `dataset`."""
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    if inner == [None]:
        yield dataset
        return
    for one in inner:
        yield from iter_datasets(one)
