"""The convolutional stem that ViT-Adapter and ViT-CoMer share.

Source: ViT-Adapter (Chen et al. 2023), section 3.3: a ResNet-like stem and three stride-2
convolutions process the image beside the ViT and add the local detail that its patches lose.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..layers import build_norm2d


def _conv(in_channels: int, out_channels: int, stride: int, norm: str) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
        build_norm2d(norm, out_channels),
        nn.ReLU(inplace=True),
    ]


class SpatialPrior(nn.Module):
    """Maps of the ViT's width at strides 4, 8, 16 and 32 of an image, sizes rounded up.

    Without `with_stride_4` the first map is None, and its projection `fc1` does not exist.
    """

    def __init__(
        self, embed_dim: int, *, inplanes: int, in_chans: int, norm: str, with_stride_4: bool = True
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            *_conv(in_chans, inplanes, 2, norm),
            *_conv(inplanes, inplanes, 1, norm),
            *_conv(inplanes, inplanes, 1, norm),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.conv2 = nn.Sequential(*_conv(inplanes, 2 * inplanes, 2, norm))
        self.conv3 = nn.Sequential(*_conv(2 * inplanes, 4 * inplanes, 2, norm))
        self.conv4 = nn.Sequential(*_conv(4 * inplanes, 4 * inplanes, 2, norm))
        self.fc1 = nn.Conv2d(inplanes, embed_dim, 1) if with_stride_4 else None
        self.fc2 = nn.Conv2d(2 * inplanes, embed_dim, 1)
        self.fc3 = nn.Conv2d(4 * inplanes, embed_dim, 1)
        self.fc4 = nn.Conv2d(4 * inplanes, embed_dim, 1)

    def forward(self, image: Tensor) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
        """Compute four channels-last maps (B, C, H/4 .. H/32) of (B, in_chans, H, W)."""
        # channels-last: tokens are made of these maps, and need no copy then
        c1 = self.stem(image.contiguous(memory_format=torch.channels_last))
        c2 = self.conv2(c1)
        c3 = self.conv3(c2)
        c4 = self.conv4(c3)
        first = self.fc1(c1) if self.fc1 is not None else None
        return first, self.fc2(c2), self.fc3(c3), self.fc4(c4)
