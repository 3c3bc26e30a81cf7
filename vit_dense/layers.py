"""Small layers that backbones and adapters share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from timm.layers import LayerNorm2d, build_sincos2d_pos_embed
from torch import Tensor, nn

GridSize = tuple[int, int]


@MODELS.register_module('TolerantBN')
class TolerantBatchNorm2d(nn.BatchNorm2d):
    """Batch norm that also trains where a channel has a single value.

    A single value has no batch statistics, and PyTorch raises an error, for example in UPerNet's
    1x1 pooling branch at batch size 1. Such a map is normalised with the running statistics
    instead, as in evaluation. Everything else, including the state dict, is `nn.BatchNorm2d`. With
    several processes the Runner's `sync_bn='torch'` converts it to SyncBN as any other batch norm;
    SyncBN accepts one value per process if there are several processes.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C, H, W)."""
        if self.training and input.numel() == input.shape[1]:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(input)


# For heads: mmcv's own 'LN' normalises the last dimension, which is a map's width.
MODELS.register_module('LN2d', module=LayerNorm2d)

NORMS: dict[str, type[nn.Module]] = {'BN': TolerantBatchNorm2d, 'LN': LayerNorm2d}


def build_norm2d(name: str, channels: int) -> nn.Module:
    """Build a norm over maps (B, C, H, W) that works at batch 1: 'BN' (tolerant) or 'LN'.

    Raises:
        ValueError: If `name` is another one.
    """
    if name not in NORMS:
        raise ValueError(f'norm={name!r} is not one of {sorted(NORMS)}: choose one of these')
    return NORMS[name](channels)


def tokens_to_map(tokens: Tensor, grid: GridSize) -> Tensor:
    """Reshape (B, h*w, C) tokens to (B, C, h, w), a view in channels-last memory."""
    return tokens.unflatten(1, grid).permute(0, 3, 1, 2)  # (B, C, h, w)


def map_to_tokens(x: Tensor) -> Tensor:
    """Reshape (B, C, h, w) to (B, h*w, C) tokens, without a copy for channels-last memory."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)  # (B, h*w, C)


def keep_channels_last(x: Tensor) -> Tensor:
    """Return a channels-last map (B, C, h, w) whose gradient has this memory layout on CPUs, too.

    Batch norm on CPUs is several times slower in the backward pass if the two layouts differ, as
    for the largest map under UPerHead or `x.mean()`.
    """
    layout = torch.channels_last
    is_eager_cpu = x.device.type == 'cpu' and not torch.compiler.is_compiling()
    if is_eager_cpu and x.requires_grad and x.is_contiguous(memory_format=layout):
        x.register_hook(lambda grad: grad.contiguous(memory_format=layout))
    return x


def resample_map(x: Tensor, *, stride: int, new_stride: int, size: GridSize) -> Tensor:
    """Resample a map bilinearly to another stride, exact to the pixel.

    Both grids start at the image's upper left corner, so the centre of cell i of the new map is at
    pixel (i + 0.5) * new_stride, wherever the maps end. Cells beyond the old map repeat its edge.

    Args:
        x: (B, C, h, w).
        stride: Pixels per cell of `x`.
        new_stride: Pixels per cell of the result.
        size: (h, w) of the result.
    """
    if stride == new_stride:
        return crop_map(x, size)
    if all(n * stride == s * new_stride for n, s in zip(x.shape[-2:], size, strict=True)):
        return F.interpolate(x, size=size, mode='bilinear', align_corners=False)
    missing = [
        max(0, -(-s * new_stride // stride) - n) for s, n in zip(size, x.shape[-2:], strict=True)
    ]
    # one more row and column, so that flooring the scaled size never loses the last cell
    x = F.pad(x, (0, missing[1] + 1, 0, missing[0] + 1), mode='replicate')
    scale = stride / new_stride
    out = F.interpolate(
        x, scale_factor=scale, mode='bilinear', align_corners=False, recompute_scale_factor=False
    )
    return crop_map(out, size)


def crop_map(x: Tensor, size: GridSize) -> Tensor:
    """Crop a map (B, C, >= h, >= w) to its upper left (h, w)."""
    return x if tuple(x.shape[-2:]) == tuple(size) else x[..., : size[0], : size[1]]


def sincos_positions(grid: GridSize, width: int, device: torch.device | None = None) -> Tensor:
    """Return fixed positions (h*w, width) of a grid, row by row; `width` is a multiple of 4.

    Sines and cosines of the column in the first half, of the row in the second, as in the released
    MAE (He et al. 2022).
    """
    rows_first = build_sincos2d_pos_embed(list(grid), width, interleave_sin_cos=True, device=device)
    return rows_first.roll(width // 2, dims=-1)


class ConvFFN(nn.Module):
    """Feed-forward layer with a 3x3 depthwise convolution on each level of a token pyramid.

    Source: ViT-Adapter (Chen et al. 2023), section 3.4 and release; after PVTv2.
    """

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.dwconv = nn.Conv2d(hidden_dim, hidden_dim, 3, padding=1, groups=hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, tokens: Tensor, shapes: Sequence[GridSize]) -> Tensor:
        """Run the layer on all levels.

        Args:
            tokens: (B, sum of h*w, C), the levels one after the other.
            shapes: (h, w) of each level.

        Returns:
            (B, sum of h*w, C).
        """
        levels = self.fc1(tokens).split([h * w for h, w in shapes], dim=1)
        maps = [
            self.dwconv(tokens_to_map(level, shape))
            for level, shape in zip(levels, shapes, strict=True)
        ]
        tokens = torch.cat([map_to_tokens(x) for x in maps], dim=1)
        return self.fc2(self.act(tokens))
