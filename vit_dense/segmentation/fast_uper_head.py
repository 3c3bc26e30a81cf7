"""UPerNet's head at about half the cost, with the weights and outputs of mmseg's `UPerHead`.

`UPerHead` enlarges its maps to the size of the largest, concatenates them and convolves the result
with a 3x3 kernel: three quarters of all its multiply-adds. A convolution is a sum over maps and
taps, and the 1x1 product of a tap commutes with bilinear enlargement. `FastUPerHead` therefore
applies the nine products of an enlarged map at the map's own size. Enlargement and shift of the
three taps along one axis are one matrix, applied along the width and then along the height.

Source: UPerNet (Xiao et al. 2018); the computation is our own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmseg.models.decode_heads import UPerHead
from mmseg.models.utils import resize
from mmseg.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class FastUPerHead(UPerHead):
    """`UPerHead` whose 3x3 convolutions of enlarged maps run at the maps' own sizes.

    Arguments, state dict and outputs are those of `UPerHead`; outputs are equal to rounding, and
    in channels-last memory. A map is enlarged first, as in `UPerHead`, where that needs fewer
    multiply-adds: large maps of few channels, or maps of nearly the same size. So are all maps if
    `conv_cfg` or a wrapper replaced a convolution. In float32 on GPUs the products follow
    `torch.set_float32_matmul_precision`, and not the setting for convolutions.
    """

    def psp_forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the last map (B, C, h, w) with its pooled context, as (B, channels, h, w)."""
        x = inputs[-1]
        return self._convolve(self.bottleneck, [x, *(pool(x) for pool in self.psp_modules)])

    def _forward_feature(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the features (B, channels, H, W) of the classifier, of the first map's size."""
        maps = self._transform_inputs(inputs)
        top = self.psp_forward(maps)
        outputs = [top]
        for i in reversed(range(len(self.lateral_convs))):
            lateral = self.lateral_convs[i](maps[i])
            top = lateral + self._enlarge(top, lateral.shape[-2:])
            outputs.insert(0, self.fpn_convs[i](top))
        return self._convolve(self.fpn_bottleneck, outputs)

    def _enlarge(self, x: Tensor, size: Sequence[int]) -> Tensor:
        if x.shape[-2:] == size:
            return x
        return resize(x, size=size, mode='bilinear', align_corners=self.align_corners)

    def _convolve(self, module: ConvModule, maps: Sequence[Tensor]) -> Tensor:
        """Apply a 3x3 ConvModule to the maps (B, C_i, h_i, w_i), enlarged to the first's size."""
        conv, size = module.conv, maps[0].shape[-2:]
        known = type(conv) is nn.Conv2d and conv.padding_mode == 'zeros'
        low: list[tuple[Tensor, Tensor]] = []
        whole: list[tuple[Tensor, Tensor]] = []
        for x, weight in zip(maps, conv.weight.split([x.shape[1] for x in maps], 1), strict=True):
            (low if known and _is_cheaper(x, size) else whole).append((x, weight))
        enlarged = [self._enlarge(x, size) for x, _ in whole]
        joined = torch.cat(enlarged, dim=1) if len(whole) > 1 else enlarged[0]
        if not low:
            return module(joined)
        out = F.conv2d(joined, torch.cat([w for _, w in whole], dim=1), conv.bias, padding=1)
        rows = out.permute(0, 2, 3, 1).flatten(2).clone()  # [B, H, W * C], which sums in place
        for x, weight in low:
            self._add_enlarged(rows, x, weight, size)
        out = rows.unflatten(2, (size[1], -1)).permute(0, 3, 1, 2)  # [B, C, H, W]
        out = module.norm(out) if module.with_norm else out
        return module.activate(out) if module.with_activation else out

    def _add_enlarged(self, rows: Tensor, x: Tensor, weight: Tensor, size: torch.Size) -> None:
        """Add the 3x3 convolution of `x`, enlarged to `size`, to `rows`.

        Args:
            rows: (B, H, W * C), the sum so far.
            x: (B, C_in, h, w).
            weight: (C, C_in, 3, 3).
            size: (H, W).
        """
        b, _, h, w = x.shape
        kernel = weight.permute(2, 3, 0, 1).flatten(1, 2)  # [3, 3 * C, C_in], the rows' taps first
        taps = x.flatten(2).transpose(1, 2).unsqueeze(1) @ kernel.transpose(1, 2)
        taps = taps.view(b * 3 * h, w * 3, -1)  # [B * 3 * h, w * 3, C]
        across = self._axis(w, size[1], taps).transpose(1, 2).flatten(1)  # [W, w * 3]
        down = self._axis(h, size[0], taps).flatten(1)  # [H, 3 * h]
        wide = torch.bmm(across.expand(b * 3 * h, -1, -1), taps)  # [B * 3 * h, W, C]
        rows.baddbmm_(down.expand(b, -1, -1), wide.view(b, 3 * h, -1))

    def _axis(self, old: int, new: int, like: Tensor) -> Tensor:
        """Return (new, 3, old): what cell i of the old axis adds to a new cell through each tap.

        The tap beyond an end of the new axis reads the zero padding.
        """
        cells = torch.eye(old, dtype=torch.promote_types(like.dtype, torch.float32))
        weights = F.interpolate(
            cells.to(like.device)[None], size=new, mode='linear', align_corners=self.align_corners
        )[0]  # [old, new]
        return F.pad(weights, (1, 1)).unfold(1, new, 1).permute(2, 1, 0).to(like.dtype)


def _is_cheaper(x: Tensor, size: torch.Size) -> bool:
    """Tell whether the products at the size of `x` need fewer multiply-adds than at `size`."""
    (channels, h, w), (height, width) = x.shape[1:], size
    at_low = 9 * h * w * (channels + width) + 3 * h * height * width  # per output channel
    return at_low < 9 * height * width * channels
