"""Look inside wrappers: of models (DDP, FSDP, test-time augmentation) and of data sets."""

from collections.abc import Iterator
from typing import Any

from torch import nn


def unwrap(model: nn.Module) -> nn.Module:
    """Return the innermost model, following the attribute `module`."""
    while isinstance(inner := getattr(model, 'module', None), nn.Module):
        model = inner
    return model


def find_encoder(model: Any) -> Any:
    """Return the network that takes the images: a backbone, its ViT, or that of pretraining."""
    backbone = getattr(model, 'backbone', model)
    return getattr(backbone, 'vit', backbone)


def in_channels(model: nn.Module) -> int:
    """Return the number of channels of the images that the model takes; 3 if it does not say."""
    return int(getattr(find_encoder(unwrap(model)), 'in_chans', 3))


def iter_datasets(dataset: Any) -> Iterator[Any]:
    """Yield the data sets inside concatenation, repetition and other wrappers, or `dataset`."""
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    if inner == [None]:
        yield dataset
        return
    for one in inner:
        yield from iter_datasets(one)
