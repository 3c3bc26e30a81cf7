"""A model that can be traced, with what the runtime must know about its outputs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Exportable:
    """A model that can be traced.

    Args:
        module: Takes what `inputs` returns.
        outputs: Names of its outputs.
        settings: The runtime's settings after the graph.
        name: The parts of the model, for people.
        batch: Images per run, or None for any number.
        crop: (height, width) of sliding windows, or None.
    """

    module: nn.Module
    outputs: tuple[str, ...]
    settings: dict[str, Any]
    name: str
    batch: int | None = None
    crop: tuple[int, int] | None = None
    extra: dict[str, Tensor] = field(default_factory=dict)

    def inputs(self, size: Sequence[int], channels: int) -> dict[str, Tensor]:
        """Return example values to trace with."""
        images = torch.zeros(self.batch or 2, channels, *size)
        return {'image': images, **self.extra}
