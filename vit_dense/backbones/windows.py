"""Non-overlapping window attention over a token grid (ViTDet, Li et al. 2022, section 3).

timm's blocks are used as they are: their tokens are cut into windows before a block and put
together again after it. Grids that windows do not divide are padded with zeros at the lower right;
padded tokens are masked, so that nobody attends to them. Prefix tokens (cls, registers) go into
every window and come out as the mean over windows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class WindowPartition:
    """Cuts tokens of a grid into windows and back.

    Attributes:
        grid: (h, w) of the tokens.
        window: edge of a window, in tokens.
        num_prefix_tokens: tokens before the grid's.
    """

    grid: tuple[int, int]
    window: int
    num_prefix_tokens: int

    @property
    def padding(self) -> tuple[int, int]:
        """Rows and columns added so that windows divide the grid."""
        return -self.grid[0] % self.window, -self.grid[1] % self.window

    @property
    def counts(self) -> tuple[int, int]:
        """Windows along height and width."""
        return -(-self.grid[0] // self.window), -(-self.grid[1] // self.window)

    def split_grid(self, x: Tensor) -> Tensor:
        """(B, h*w, C) -> (B * windows, window^2, C), windows of an image row by row."""
        channels = x.shape[-1]
        x = x.unflatten(1, self.grid)  # (B, h, w, C)
        pad_h, pad_w = self.padding
        if pad_h or pad_w:
            x = F.pad(x, (0, 0, 0, pad_w, 0, pad_h))
        rows, columns = self.counts
        x = x.view(-1, rows, self.window, columns, self.window, channels)
        return x.transpose(2, 3).reshape(-1, self.window**2, channels)

    def merge_grid(self, x: Tensor) -> Tensor:
        """The inverse of `split_grid`; padded tokens are dropped."""
        rows, columns = self.counts
        channels = x.shape[-1]
        x = x.view(-1, rows, columns, self.window, self.window, channels).transpose(2, 3)
        x = x.reshape(-1, rows * self.window, columns * self.window, channels)
        return x[:, : self.grid[0], : self.grid[1]].flatten(1, 2)  # (B, h*w, C)

    def split(self, tokens: Tensor) -> Tensor:
        """(B, P + h*w, C) -> (B * windows, P + window^2, C)."""
        prefix, patches = tokens.tensor_split([self.num_prefix_tokens], dim=1)
        windows = self.split_grid(patches)
        if not self.num_prefix_tokens:
            return windows
        rows, columns = self.counts
        return torch.cat((prefix.repeat_interleave(rows * columns, dim=0), windows), dim=1)

    def merge(self, windows: Tensor) -> Tensor:
        """The inverse of `split`; prefix tokens are averaged over an image's windows."""
        prefix, patches = windows.tensor_split([self.num_prefix_tokens], dim=1)
        merged = self.merge_grid(patches)
        if not self.num_prefix_tokens:
            return merged
        rows, columns = self.counts
        return torch.cat((prefix.unflatten(0, (-1, rows * columns)).mean(1), merged), dim=1)

    def key_mask(self, batch: int, device: torch.device) -> Tensor | None:
        """True where a token may be attended to: (B * windows, 1, 1, P + window^2), or None."""
        if self.padding == (0, 0):
            return None
        h, w = self.grid
        real = self.split_grid(torch.ones(1, h * w, 1, device=device))[..., 0] > 0
        real = F.pad(real, (self.num_prefix_tokens, 0), value=True)
        return real.repeat(batch, 1)[:, None, None]
