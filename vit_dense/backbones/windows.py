"""Non-overlapping window attention over a token grid (ViTDet, Li et al. 2022, section 3).

timm's blocks are unchanged: tokens are split into windows before a block and merged after it. If
the grid is not a multiple of the window, the last windows of a row or column are smaller. This
equals padding and masking without computing on the padding, which for windows of 14 would add 72 %
to a 32x32 grid. (The ViT-Adapter release pads with zeros and does not mask them, so the
outputs of its detection models differ if the grid is not a multiple of 14.) Windows of one shape
run together, so a block runs at most four times: inside, right edge, lower edge, corner. Prefix
tokens (cls, registers) are copied to every window and averaged over windows afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from timm.layers import DropPath, drop_path
from torch import Tensor, nn

from .sharded_blocks import call_block


def block_windows(
    window_size: int | Sequence[int | None] | None,
    global_blocks: Sequence[int] | None,
    depth: int,
) -> tuple[int | None, ...]:
    """Return the edge of each block's windows, None where it attends globally.

    Args:
        window_size: One edge for all, one for each block, or None for no windows at all.
        global_blocks: Blocks without windows; by default the last of each quarter of the depth.
        depth: Number of blocks.

    Raises:
        ValueError: If arguments contradict each other or are out of range.
    """
    if window_size is None:
        if global_blocks is not None:
            raise ValueError(
                f'global_blocks={list(global_blocks)} without window_size: all blocks attend '
                f'globally then; set window_size or leave global_blocks out'
            )
        return (None,) * depth
    listed = isinstance(window_size, Sequence) and not isinstance(window_size, str)
    edges: list[Any] = [*window_size] if listed else [window_size]  # type: ignore[misc]
    if not all(edge is None or (type(edge) is int and edge >= 1) for edge in edges):
        raise ValueError(
            f'window_size={window_size!r}: give tokens >= 1, a sequence of one for each block, or '
            f'None for no windows'
        )
    if not isinstance(global_blocks, Sequence | None):
        raise ValueError(f'global_blocks={global_blocks!r}: give a list of blocks')
    if not isinstance(window_size, int):
        if len(edges) != depth or global_blocks is not None:
            raise ValueError(
                f'window_size={edges} with global_blocks={global_blocks}: a sequence has an edge '
                f'for each of the {depth} blocks, None where one attends globally, and needs no '
                f'global_blocks'
            )
        return tuple(edges)
    if global_blocks is None:
        stops = (depth * (i + 1) // 4 for i in range(4))
        global_blocks = [stop - 1 for stop in stops if stop]
    if bad := [i for i in global_blocks if not 0 <= i < depth]:
        raise ValueError(
            f'global_blocks={list(global_blocks)}: {bad} are not blocks of this ViT, which has '
            f'0..{depth - 1}'
        )
    return tuple(None if i in global_blocks else window_size for i in range(depth))


@dataclass(frozen=True)
class Tile:
    """A rectangle of the token grid that is divided into windows of one shape.

    Attributes:
        top, left: Its first row and column.
        counts: Windows along height and width.
        shape: (h, w) of each window, in tokens.
        window: Edge of a whole window; `shape` is its upper left part.
    """

    top: int
    left: int
    counts: tuple[int, int]
    shape: tuple[int, int]
    window: int

    def split(self, x: Tensor) -> Tensor:
        """Split a grid (B, h, w, C) into (B * windows, tokens of a window, C), row by row."""
        (rows, columns), (height, width) = self.counts, self.shape
        x = x[:, self.top : self.top + rows * height, self.left : self.left + columns * width]
        x = x.unflatten(2, (columns, width)).unflatten(1, (rows, height)).transpose(2, 3)
        return x.reshape(-1, height * width, x.shape[-1])

    def merge(self, windows: Tensor) -> Tensor:
        """Invert `split`: return this rectangle of the grid, (B, rows, columns, C)."""
        x = windows.view(-1, *self.counts, *self.shape, windows.shape[-1]).transpose(2, 3)
        return x.flatten(3, 4).flatten(1, 2)


@dataclass(frozen=True)
class WindowPartition:
    """Splits tokens of a grid into windows and merges them.

    Attributes:
        grid: (h, w) of the tokens.
        window: Edge of a window, in tokens.
        num_prefix_tokens: Tokens before the grid's.
    """

    grid: tuple[int, int]
    window: int
    num_prefix_tokens: int

    @property
    def tiles(self) -> list[Tile]:
        """The one to four rectangles that cover the grid, row by row."""
        rows, columns = (_cuts(size, self.window) for size in self.grid)
        return [
            Tile(top, left, (row_count, column_count), (height, width), self.window)
            for (top, row_count, height), (left, column_count, width) in product(rows, columns)
        ]

    def split(self, tokens: Tensor) -> list[Tensor]:
        """Split (B, P + h*w, C) into (B * windows, P + tokens of a window, C) for each tile."""
        prefix, patches = tokens.tensor_split([self.num_prefix_tokens], dim=1)
        patches = patches.unflatten(1, self.grid)  # (B, h, w, C)
        windows = [tile.split(patches) for tile in self.tiles]
        if not self.num_prefix_tokens:
            return windows
        return [
            torch.cat((prefix.repeat_interleave(x.shape[0] // prefix.shape[0], dim=0), x), dim=1)
            for x in windows
        ]

    def merge(self, windows: list[Tensor]) -> Tensor:
        """Invert `split`; prefix tokens are averaged over an image's windows."""
        parts = [x.tensor_split([self.num_prefix_tokens], dim=1) for x in windows]
        maps = [tile.merge(x) for tile, (_, x) in zip(self.tiles, parts, strict=True)]
        across = len({tile.left for tile in self.tiles})
        bands = [torch.cat(maps[i : i + across], dim=2) for i in range(0, len(maps), across)]
        merged = torch.cat(bands, dim=1).flatten(1, 2)  # (B, h*w, C)
        if not self.num_prefix_tokens:
            return merged
        batch = merged.shape[0]
        prefix = torch.cat([x.unflatten(0, (batch, -1)) for x, _ in parts], dim=1).mean(1)
        return torch.cat((prefix, merged), dim=1)

    def merge_attention(self, windows: list[Tensor]) -> Tensor:
        """Merge attention (windows, heads, n, n) of each tile of one image.

        Returns:
            (heads, P + h*w, P + h*w), zero between patches of different windows. Rows of prefix
            tokens are averaged over the windows, as `merge` averages their values.
        """
        count = self.num_prefix_tokens
        patches = torch.arange(self.grid[0] * self.grid[1], device=windows[0].device)
        prefix = torch.arange(count, device=patches.device)
        total = len(patches) + count
        whole = windows[0].new_zeros(windows[0].shape[1], total, total)
        for tile, attention in zip(self.tiles, windows, strict=True):
            inside = tile.split(patches.view(1, *self.grid, 1))[..., 0] + count  # (windows, n)
            places = torch.cat((prefix.expand(len(inside), -1), inside), dim=1)
            whole += scatter_attention(attention, places, total)
        whole[:, :count] /= sum(len(attention) for attention in windows)
        return whole


def scatter_attention(attention: Tensor, places: Tensor, total: int) -> Tensor:
    """Sum attention (windows, heads, n, n) at tokens (windows, n) to (heads, total, total).

    Places of -1 are left out.
    """
    whole = attention.new_zeros(attention.shape[1], total, total)
    for window, place in zip(attention, places, strict=True):
        is_token = place >= 0
        place = place[is_token]
        whole[:, place[:, None], place] += window[:, is_token][:, :, is_token]
    return whole


def _cuts(size: int, window: int) -> list[tuple[int, int, int]]:
    """Return (start, count, edge) of the whole windows along one side and of the last one."""
    whole, rest = (
        size // window,
        size % window,
    )  # torch.compile does not support divmod of dynamic sizes
    cuts = [(0, whole, window), (whole * window, 1, rest)]
    return [cut for cut in cuts if cut[1] and cut[2]]


class ImageDropPath(DropPath):
    """timm's stochastic depth with one drop decision per image, shared by its windows.

    Attributes:
        uses: Calls in one forward of the block; 2 where attention and MLP share the module.
        drop_masks: (B * windows, 1, 1) factors for the next calls; drawn per sample if empty.
    """

    uses: int = 1
    drop_masks: list[Tensor]

    def draw(self, images: int, like: Tensor) -> Tensor:
        """Draw factors (images, 1, 1) of the type of `like`, as timm's `drop_path` does."""
        ones = like.new_ones(images, 1, 1)
        return drop_path(ones, self.drop_prob, True, self.scale_by_keep)

    def forward(self, x: Tensor) -> Tensor:
        """Drop samples of (N, ...)."""
        if not self.drop_masks or not self.training:
            return super().forward(x)
        return x * self.drop_masks.pop(0).view(-1, *[1] * (x.ndim - 1)).to(x.dtype)


def own_drop_paths(block: nn.Module) -> None:
    """Convert timm's DropPath modules of `block` to ours; they have no weights."""
    paths: list[Any] = [module for module in block.modules() if type(module) is DropPath]
    for path in paths:
        path.__class__ = ImageDropPath
        path.drop_masks = []


def active_drop_paths(block: nn.Module) -> list[ImageDropPath]:
    """Return the modules of `block` that drop samples now, each as often as a forward calls it."""
    return [
        module
        for module in block.modules()
        if isinstance(module, ImageDropPath) and module.training and module.drop_prob > 0
        for _ in range(module.uses)
    ]


def run_dropping(block: nn.Module, tokens: Tensor, *drop_masks: Tensor, **kwargs: Any) -> Tensor:
    """Run `block` with the factors `drop_masks`, one for each of its `active_drop_paths`.

    It depends on its arguments alone, so that gradient checkpointing drops the same samples again.
    """
    paths = active_drop_paths(block)
    for path, mask in zip(paths, drop_masks, strict=True):
        path.drop_masks.append(mask)
    try:
        return call_block(block, tokens, **kwargs)
    finally:  # torch ends a recomputation by an exception as soon as it has all tensors
        for path in paths:
            path.drop_masks.clear()
