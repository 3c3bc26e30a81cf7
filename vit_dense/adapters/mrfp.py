"""MRFP: the multi-receptive-field feature pyramid of ViT-CoMer (Xia et al., CVPR 2024).

A feed-forward layer on a pyramid of tokens, with depthwise convolutions of two sizes on each level
between its two linear layers. As released: no residual, and two activations in a row.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import GridSize, build_norm2d, map_to_tokens, tokens_to_map
from .interaction import PYRAMID_STRIDES


class TwoFieldConv(nn.Module):
    """A 3x3 depthwise convolution on one half of the channels and a 5x5 on the other."""

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        half = channels // 2
        self.conv3 = nn.Conv2d(half, half, 3, padding=1, groups=half)
        self.conv5 = nn.Conv2d(half, half, 5, padding=2, groups=half)
        self.norm = build_norm2d(norm, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, normalise and activate (B, C, h, w)."""
        near, far = x.chunk(2, dim=1)
        return F.gelu(self.norm(torch.cat((self.conv3(near), self.conv5(far)), dim=1)))


class MRFP(nn.Module):
    """Multi-receptive-field feature pyramid: a feed-forward layer with two kernels per level."""

    def __init__(self, dim: int, hidden_dim: int, norm: str) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.levels = nn.ModuleList(TwoFieldConv(hidden_dim, norm) for _ in PYRAMID_STRIDES)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, pyramid: Tensor, shapes: Sequence[GridSize]) -> Tensor:
        """Run (B, S, C) through the layer, the levels of `shapes` one after the other."""
        levels = pyramid.split([h * w for h, w in shapes], dim=1)
        parts = zip(self.levels, levels, shapes, strict=True)
        # level by level to the end: in most models the levels are narrower after the last layer
        return torch.cat([self._level(conv, x, shape) for conv, x, shape in parts], dim=1)

    def _level(self, conv: nn.Module, tokens: Tensor, shape: GridSize) -> Tensor:
        """Run one level (B, h*w, C) through all layers."""
        tokens = map_to_tokens(conv(tokens_to_map(self.fc1(tokens), shape)))
        # the second activation is as released: trained weights expect it
        return self.fc2(F.gelu(tokens))
