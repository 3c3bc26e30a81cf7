"""Whole models of other projects: their files hold a backbone of ours under names of their own.

A package registers a function that recognises its files. `load_vit_weights`, `load_from`, the
checks before a test, the adapters' `load_state_dict` and the converter then take such files.
`vit_dense.released` is one.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from torch import Tensor

from .match import LoadReport

__all__ = ['ForeignModel', 'recognise_foreign', 'register_foreign']


class ForeignModel(Protocol):
    """A recognised file; `str` says what it is.

    Attributes:
        others: Tensors outside the backbone, under the names of mmseg 1.x and mmdet 3.x.
        settings: The `model.backbone` config that the file wants.
        vit_names: Names, in the file's backbone, of the ViT's own tensors.
        vit_hint: What to do if the file's ViT differs from the model's.
    """

    @property
    def others(self) -> dict[str, Tensor]: ...
    @property
    def settings(self) -> dict[str, Any]: ...
    @property
    def vit_names(self) -> list[str]: ...
    @property
    def vit_hint(self) -> str: ...

    def bare_vit(self, expected: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Return the ViT's tensors under timm's names, and notes on what was changed.

        `expected` is the state dict of the timm ViT.
        """
        ...

    def plan(
        self, expected: Mapping[str, Tensor], source: str
    ) -> tuple[dict[str, Tensor], LoadReport]:
        """Return all tensors under our names, and the report of a comparison with `expected`."""
        ...

    def differences(self, model: Any) -> list[str]:
        """Return settings, invisible in shapes, that make the model compute something else."""
        ...

    def advice(self, report: LoadReport) -> str:
        """Return what to do where the report of `plan` shows that file and model do not fit."""
        ...


Recogniser = Callable[[Mapping[str, Tensor]], ForeignModel | None]
_recognisers: list[Recogniser] = []


def register_foreign(recognise: Recogniser) -> None:
    """Register a function that says what a state dict is; it returns None for other files."""
    _recognisers.append(recognise)


def recognise_foreign(tensors: Mapping[str, Tensor]) -> ForeignModel | None:
    """Return what the registered functions make of a state dict; None for ordinary files.

    Raises:
        ValueError: If it is a known model of a variant that nothing here can run.
    """
    found = (recognise(tensors) for recognise in _recognisers)
    return next((model for model in found if model is not None), None)
