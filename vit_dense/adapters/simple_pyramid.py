"""SimpleFeaturePyramid: four maps from the ViT's last map alone.

Source: ViTDet (Li et al. 2022), section 3 and figure 2a. The ViT is unchanged; its last map is up-
and downsampled. Unlike in the paper, maps of patches other than 16 px are first resampled to
stride 16.
"""

from __future__ import annotations

from typing import Any

from mmengine.registry import MODELS
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from ..backbones import TimmViT
from ..backbones.taps import tap_blocks
from ..layers import build_norm2d, crop_map, resample_map, tokens_to_map
from .base import STRIDES, MultiScaleAdapter


@MODELS.register_module()
class SimpleFeaturePyramid(MultiScaleAdapter):
    """ViTDet's pyramid on a plain ViT.

    Each map is the ViT's last map at stride 16, resampled to stride 4, 8, 16 or 32 by transposed
    convolutions or max pooling, followed by a 1x1 and a 3x3 convolution, each with a norm.
    """

    def __init__(
        self,
        vit: dict[str, Any] | TimmViT,
        *,
        out_channels: int = 256,
        norm: str = 'LN',
        init_cfg: dict | None = None,
    ) -> None:
        """Build the pyramid.

        Args:
            vit: A `TimmViT` or its config. `final_norm=True` there normalises the last map.
            out_channels: Channels of each map.
            norm: 'LN' (over channels, as in the paper) or 'BN'.
            init_cfg: As in mmengine.

        Raises:
            ValueError: If the norm is unknown, or out_channels < 1.
        """
        super().__init__(vit, init_cfg)
        if out_channels < 1:
            raise ValueError(f'out_channels={out_channels}: give the channels per map, >= 1')
        self.out_channels = (out_channels,) * 4
        dim = self.vit.embed_dim
        rescale = [
            nn.Sequential(
                nn.ConvTranspose2d(dim, dim // 2, 2, stride=2),
                LayerNorm2d(dim // 2),
                nn.GELU(),
                nn.ConvTranspose2d(dim // 2, dim // 4, 2, stride=2),
            ),
            nn.ConvTranspose2d(dim, dim // 2, 2, stride=2),
            nn.Identity(),
            nn.MaxPool2d(2, ceil_mode=True),
        ]
        self.stages = nn.ModuleList(
            nn.Sequential(
                layer,
                nn.Conv2d(channels, out_channels, 1, bias=False),
                build_norm2d(norm, out_channels),
                nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
                build_norm2d(norm, out_channels),
            )
            for layer, channels in zip(rescale, (dim // 4, dim // 2, dim, dim), strict=True)
        )

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Compute four maps (B, out_channels, H/4 .. H/32) of (B, in_chans, H, W), rounded up.

        Raises:
            ValueError: If the image has another number of channels, or an edge below 32 px.
        """
        self.check_image(image)
        sizes = self.map_sizes(image)
        (tokens,), grid = tap_blocks(self.vit, image, [self.vit.depth - 1])
        x = tokens_to_map(tokens[:, self.vit.num_prefix_tokens :], grid)
        x = resample_map(x, stride=self.vit.patch_size, new_stride=STRIDES[2], size=sizes[2])
        return tuple(
            crop_map(stage(x), size) for stage, size in zip(self.stages, sizes, strict=True)
        )
