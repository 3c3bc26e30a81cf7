"""PlainViT: unchanged maps of a ViT's last blocks, for linear probes and other light heads.

Source: DINOv2 (Oquab et al. 2023), section 7.4: a linear layer on the patch tokens of a frozen
ViT, of the last block alone or of the last four concatenated. It has no parameters but the ViT's.
"""

from __future__ import annotations

from typing import Any

from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor

from .timm_vit import TimmViT


@MODELS.register_module()
class PlainViT(BaseModule):
    """One map for each of the last blocks, all at the stride of the ViT's patches.

    It is not a `MultiScaleAdapter`, which heads for strides 4 to 32 require. The maps cover whole
    patches, so logits resized to the image are aligned with it only if its size is a multiple of
    the patch size: choose such crops (518 px for patches of 14).

    Attributes:
        vit: The `TimmViT`.
        out_channels: Channels of each map, for the heads' `in_channels`.
    """

    def __init__(
        self,
        vit: dict[str, Any] | TimmViT,
        *,
        num_maps: int = 1,
        init_cfg: dict | None = None,
    ) -> None:
        """Build the ViT.

        Args:
            vit: A `TimmViT` or its config. `final_norm=True` there normalises every map, as
                DINOv2's protocol does.
            num_maps: Number of last blocks whose maps are returned, in the order of the blocks.
            init_cfg: As in mmengine.

        Raises:
            ValueError: If `num_maps` is not in 1..depth.
        """
        super().__init__(init_cfg)
        self.vit = vit if isinstance(vit, TimmViT) else MODELS.build(vit)
        if not 1 <= num_maps <= self.vit.depth:
            raise ValueError(
                f'num_maps={num_maps}: {self.vit.model_name!r} has {self.vit.depth} blocks, of '
                'which 1 to all can give a map; published are 1 and 4'
            )
        self.num_maps = num_maps
        self.out_channels = (self.vit.embed_dim,) * num_maps

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Compute `num_maps` maps (B, C, ceil(H / patch), ceil(W / patch)) of (B, in_chans, H, W).

        Raises:
            ValueError: If the image has another number of channels.
        """
        if image.dim() != 4 or image.shape[1] != self.vit.in_chans:
            raise ValueError(
                f'got an image of shape {tuple(image.shape)}; {self.vit.model_name!r} takes '
                f'(B, {self.vit.in_chans}, H, W): convert the images, or set '
                'vit.model_kwargs=dict(in_chans=...)'
            )
        tokens, context = self.vit.embed(image)
        maps = []
        start = 0
        for stop in range(self.vit.depth - self.num_maps + 1, self.vit.depth + 1):
            tokens = self.vit.run_blocks(tokens, context, start, stop)
            maps.append(self.vit.to_map(tokens, context, final=True))
            start = stop
        return tuple(maps)
