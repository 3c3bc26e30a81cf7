"""The contract of all adapters: an image in, four maps at strides 4, 8, 16 and 32 out."""

from __future__ import annotations

from typing import Any

from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor

from ..backbones import TimmViT

STRIDES = (4, 8, 16, 32)
MIN_IMAGE_SIZE = 32


class MultiScaleAdapter(BaseModule):
    """Base class: owns the ViT, checks images, knows the sizes of the maps.

    Subclasses set `out_channels` and implement `forward`. Weights: mmengine's Runner calls
    `init_weights()`, which reaches `TimmViT.init_weights` and draws nothing new; adapters
    initialise their own layers when built.

    Attributes:
        vit: the `TimmViT`.
        out_channels: channels of the four maps, for the heads' `in_channels`.
    """

    out_channels: tuple[int, int, int, int]

    def __init__(self, vit: dict[str, Any] | TimmViT, init_cfg: dict | None = None) -> None:
        """
        Args:
            vit: a `TimmViT` or its config.
            init_cfg: mmengine's, for weights of the whole backbone (`type='Pretrained'`).
        """
        super().__init__(init_cfg=init_cfg)
        self.vit = vit if isinstance(vit, TimmViT) else MODELS.build(vit)

    def check_image(self, image: Tensor) -> None:
        """Refuses what cannot become a pyramid.

        Raises:
            ValueError: not (B, in_chans, H, W) with H, W >= 32.
        """
        if image.dim() != 4 or image.shape[1] != self.vit.in_chans:
            raise ValueError(
                f'got an image of shape {tuple(image.shape)}; {self.vit.model_name!r} takes '
                f'(B, {self.vit.in_chans}, H, W). Convert grayscale and RGBA images to '
                f'{self.vit.in_chans} channels, or set vit.model_kwargs=dict(in_chans=...)'
            )
        if min(image.shape[-2:]) < MIN_IMAGE_SIZE:
            height, width = image.shape[-2:]
            raise ValueError(
                f'got an image of {height}x{width} px (height x width); the stride-32 map needs '
                f'at least {MIN_IMAGE_SIZE}x{MIN_IMAGE_SIZE}: resize or pad the images'
            )

    @staticmethod
    def map_sizes(image: Tensor) -> list[tuple[int, int]]:
        """(h, w) of the four maps: image sizes over the strides, rounded up."""
        height, width = image.shape[-2:]
        return [(-(-height // s), -(-width // s)) for s in STRIDES]
