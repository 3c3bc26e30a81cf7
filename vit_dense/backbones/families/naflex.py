"""NaFlexViT on ordinary batches of images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .base import Family, TokenContext


class NaFlexFamily(Family):
    """NaFlexViT on ordinary batches of images."""

    build_kwargs: Mapping[str, Any] = {'dynamic_img_pad': True}

    def prepare(self, model: Any) -> None:
        """Prepare a new timm model.

        Raises:
            ValueError: If the model has rotary positions; no registered one does.
        """
        if model.rope is not None:
            raise ValueError(
                'model_kwargs=dict(rope_type=...): NaFlexViT is supported as timm registers it, '
                'without rotary positions; leave rope_type out'
            )

    def patch_size(self, model: Any) -> tuple[int, int]:
        height, width = model.embeds.patch_size
        return int(height), int(width)

    def embed(self, model: Any, image: Tensor) -> tuple[Tensor, TokenContext]:
        grid = model.embeds.dynamic_feat_size(tuple(image.shape[-2:]))
        embedded = model._forward_embeds(image, None, None, None)
        return embedded['patches'], TokenContext(grid)
