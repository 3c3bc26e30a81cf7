"""ViTs on the map of a small CNN: ResNet hybrids and ViTamin."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from .base import Family, TokenContext


class HybridFamily(Family):
    """ViTs with patches of the last map of a small CNN (ViTamin: three stages)."""

    no_dropping = 'the CNN before its blocks mixes neighbouring patches, so none can be hidden'

    def patch_size(self, model: Any) -> tuple[int, int]:
        height, width = model.patch_embed.feat_ratio(as_scalar=False)
        return int(height), int(width)

    def embed(self, model: Any, image: Tensor) -> tuple[Tensor, TokenContext]:
        # the layers of the CNN round sizes differently; whole patches need no rounding
        height, width = image.shape[-2:]
        patch = self.patch_size(model)
        return super().embed(model, F.pad(image, (0, -width % patch[1], 0, -height % patch[0])))
