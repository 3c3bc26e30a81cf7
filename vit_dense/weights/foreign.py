"""Whole models whose files have names of their own; packages beside this one register them."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

__all__ = ['recognise_foreign', 'register_foreign']

_RECOGNISERS: list[Callable[[Mapping[str, Tensor]], Any]] = []


def register_foreign(recognise: Callable[[Mapping[str, Tensor]], Any]) -> None:
    """Register a function that returns what a state dict is, or None for other files."""
    _RECOGNISERS.append(recognise)


def recognise_foreign(tensors: Mapping[str, Tensor]) -> Any:
    """Return what the first registered function recognises, or None."""
    for recognise in _RECOGNISERS:
        if (found := recognise(tensors)) is not None:
            return found
    return None
