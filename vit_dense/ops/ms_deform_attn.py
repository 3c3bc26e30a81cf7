"""Multi-scale deformable attention (Deformable DETR, Zhu et al. 2021, eq. 3) without a compiler.

Each query looks at a few points per level of a feature pyramid, at offsets that it predicts, and
sums what it finds there with weights that it predicts. Three backends, equal up to rounding:

- the GPU kernel of a compiled mmcv or of deformops, where one is installed;
- `grid_sample`, on accelerators and when a graph is exported (`exporting` chooses);
- `embedding_bag` on CPUs: the four corners of each bilinear sample are rows of one table, so that
  a query is a weighted sum of rows. Rows are contiguous, which makes it 3 to 6 times faster.

Sampling runs in float32 (float64 for float64 inputs), also under autocast: in half precision the
positions would lose the fraction of a pixel that bilinear interpolation needs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .exporting import exported_sampling
from .native import NativeOp, native_ms_deform_attn
from .sampling_grid import LevelSizes, SamplingGrid, SpatialShapes
from .weighted_gather import weighted_gather

MAX_INT32 = 2**31 - 1


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: SpatialShapes,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    *,
    grid: SamplingGrid | None = None,
) -> Tensor:
    """Sample `value` bilinearly at `sampling_locations` and sum with `attention_weights`.

    Samples outside a level count as zero.

    Args:
        value: (B, S, heads, head_dim); the levels' tokens one after the other, S = sum of h*w.
        spatial_shapes: (h, w) of each level, in tokens.
        sampling_locations: (B, Lq, heads, levels, points, 2), (x, y) normalised so that 0 and 1
            are a level's outer edges.
        attention_weights: (B, Lq, heads, levels, points).
        grid: Optional grid with the same shapes, which keeps them on the device for mmcv's kernel.

    Returns:
        (B, Lq, heads * head_dim), in the dtype of `value`.

    Raises:
        ValueError: If the number of tokens or of levels contradicts `spatial_shapes`.
    """
    tokens = sum(h * w for h, w in spatial_shapes)
    if value.shape[1] != tokens or sampling_locations.shape[3] != len(spatial_shapes):
        raise ValueError(
            f'got {value.shape[1]} value tokens and {sampling_locations.shape[3]} levels of '
            f'sampling locations; spatial_shapes={list(spatial_shapes)} asks for {tokens} tokens '
            f'and {len(spatial_shapes)} levels'
        )
    dtype = torch.promote_types(value.dtype, torch.float32)
    samples = value.to(dtype), sampling_locations.to(dtype), attention_weights.to(dtype)
    native = _native_op(value)
    if native is not None:
        levels = grid.level_sizes if grid else LevelSizes.of(spatial_shapes, value.device)
        return native(samples[0], levels, *samples[1:]).to(value.dtype)
    backend = _by_grid_sample if _prefers_grid_sample(value) else _by_embedding_bag
    return backend(samples[0], spatial_shapes, *samples[1:]).to(value.dtype)


def _prefers_grid_sample(value: Tensor) -> bool:
    sampling = exported_sampling()
    if sampling is not None:
        return sampling == 'grid_sample'
    return value.device.type != 'cpu' or torch.onnx.is_in_onnx_export()


def _native_op(value: Tensor) -> NativeOp | None:
    # under torch.compile the look-up would break the graph, and grid_sample is fused there
    if not value.is_cuda or torch.compiler.is_compiling():
        return None
    # the kernels add with atomics, of which PyTorch does not know
    if torch.are_deterministic_algorithms_enabled():
        return None
    return native_ms_deform_attn()


def _by_grid_sample(
    value: Tensor, spatial_shapes: SpatialShapes, locations: Tensor, weights: Tensor
) -> Tensor:
    """Call `grid_sample` once per level, with the heads folded into the batch."""
    batch, _, heads, head_dim = value.shape
    queries, points = locations.shape[1], locations.shape[4]
    levels = value.split([h * w for h, w in spatial_shapes], dim=1)
    grids = (2 * locations - 1).transpose(1, 2)  # (B, heads, Lq, levels, points, 2), in -1..1
    out = value.new_zeros(batch * heads, head_dim, queries)
    weights = weights.transpose(1, 2).flatten(0, 1)  # (B*heads, Lq, levels, points)
    for i, (h, w) in enumerate(spatial_shapes):
        maps = levels[i].permute(0, 2, 3, 1).reshape(batch * heads, head_dim, h, w)
        grid = grids[:, :, :, i].reshape(batch * heads, queries, points, 2)
        sampled = F.grid_sample(maps, grid, padding_mode='zeros', align_corners=False)
        out = out + (sampled * weights[:, None, :, i]).sum(-1)  # (B*heads, head_dim, Lq)
    return out.view(batch, heads * head_dim, queries).transpose(1, 2)


def _by_embedding_bag(
    value: Tensor, spatial_shapes: SpatialShapes, locations: Tensor, weights: Tensor
) -> Tensor:
    """Compute one weighted sum of rows per query and head, over the corners of all its samples."""
    batch, tokens, heads, head_dim = value.shape
    queries = locations.shape[1]
    rows, row_weights = _corners(spatial_shapes, locations, weights)
    # the table holds the rows of (image, token, head) in this order
    table = value.reshape(batch * tokens * heads, head_dim)
    out = weighted_gather(table, rows, row_weights)
    return out.view(batch, queries, heads * head_dim)


def _corners(
    spatial_shapes: SpatialShapes, locations: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Find the four corners of each sample as rows of the table of (image, token, head).

    Returns:
        Row numbers (B * Lq * heads, 4 * levels * points), corner by corner, and the product of
        bilinear and attention weight of the same shape, 0 outside the level.
    """
    batch, queries, heads, levels, points = weights.shape
    tokens = sum(h * w for h, w in spatial_shapes)
    corners = 4 * batch * queries * heads * levels * points
    # int32 takes half the memory; an exported graph must hold for any batch
    is_exported = exported_sampling() is not None
    is_within_int32 = not is_exported and max(corners, batch * tokens * heads) <= MAX_INT32
    dtype = torch.int32 if is_within_int32 else torch.int64

    # Elementwise work runs on (B * Lq, heads * levels * points): CPUs are slow at broadcasting
    # over dimensions as short as levels and points.
    def of_samples(values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=dtype)[:, None].expand(heads, levels, points).flatten()

    heights, widths = (of_samples(sizes) for sizes in zip(*spatial_shapes, strict=True))
    areas = [h * w for h, w in spatial_shapes]
    starts = of_samples([sum(areas[:i]) for i in range(levels)])
    head = torch.arange(heads, dtype=dtype).repeat_interleave(levels * points)
    image = torch.arange(batch, dtype=dtype).repeat_interleave(queries)[:, None]
    first = image * (tokens * heads) + (starts * heads + head)

    weights = weights.reshape(batch * queries, heads * levels * points)
    columns = _neighbours(locations[..., 0].reshape(weights.shape), widths)
    rows, row_weights = [], []
    for y, share_y in _neighbours(locations[..., 1].reshape(weights.shape), heights):
        start, weight = first + y * (widths * heads), weights * share_y
        for x, share_x in columns:
            rows.append(start.add(x, alpha=heads))
            row_weights.append(weight * share_x)
    shape = (batch * queries * heads, levels * points)
    return _join(rows, shape), _join(row_weights, shape)


def _join(corners: list[Tensor], shape: tuple[int, int]) -> Tensor:
    return torch.cat([corner.view(shape) for corner in corners], dim=1)


def _neighbours(locations: Tensor, sizes: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Find the two cells around each position along one axis, and their shares (0 outside)."""
    position = locations * sizes.to(locations.dtype) - 0.5  # in cells
    floor = position.detach().floor()
    fraction = position - floor
    first = floor.to(sizes.dtype)
    found = []
    for cell, share in ((first, 1 - fraction), (first + 1, fraction)):
        inside = cell.clamp(min=0).minimum(sizes - 1)
        outside = (cell - inside).sign().abs()  # 0 or 1; booleans are slow to multiply with
        found.append((inside, share * (1 - outside).to(share.dtype)))
    return found


class MSDeformAttn(nn.Module):
    """Attention layer that predicts offsets and weights from the query, and projects in and out.

    Sub-layers have the names of the released implementations: `sampling_offsets`,
    `attention_weights`, `value_proj`, `output_proj`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        num_levels: int,
        num_points: int = 4,
        value_ratio: float = 1.0,
    ) -> None:
        """Build the layer.

        Args:
            dim: Width of queries, values and outputs.
            num_heads: Number of heads; must divide `dim * value_ratio`.
            num_levels: Number of levels of the value pyramid.
            num_points: Points per head and level.
            value_ratio: Width of the sampled values over `dim` (released: 1 or 0.5).

        Raises:
            ValueError: If `num_heads` does not divide the value width.
        """
        super().__init__()
        value_dim = int(dim * value_ratio)
        if min(num_heads, num_levels, num_points) < 1:
            raise ValueError(
                f'deformable attention with {num_heads} heads, {num_levels} levels and '
                f'{num_points} points: each must be at least 1'
            )
        if value_dim % num_heads or value_dim == 0:
            raise ValueError(
                f'deformable attention has {num_heads} heads over a value width of {value_dim} '
                f'(= {dim} * {value_ratio}), which they do not divide: choose deform_num_heads '
                f'and deform_ratio so that heads divide {dim} * deform_ratio'
            )
        self.num_heads = num_heads
        self.num_levels = num_levels
        self.num_points = num_points
        samples = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(dim, samples * 2)
        self.attention_weights = nn.Linear(dim, samples)
        self.value_proj = nn.Linear(dim, value_dim)
        self.output_proj = nn.Linear(value_dim, dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Spread the heads' directions evenly, point k at a distance of k cells (paper, A.4)."""
        angle = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        direction = torch.stack((angle.cos(), angle.sin()), -1)
        direction = direction / direction.abs().amax(-1, keepdim=True)
        distance = torch.arange(1, self.num_points + 1).view(1, 1, -1, 1)
        offsets = direction.view(-1, 1, 1, 2) * distance  # (heads, 1, points, 2)
        offsets = offsets.expand(-1, self.num_levels, -1, -1)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.reshape(-1))
        nn.init.zeros_(self.sampling_offsets.weight)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(self, query: Tensor, grid: SamplingGrid, feat: Tensor) -> Tensor:
        """Sample `feat` around the reference points of the queries.

        Args:
            query: (B, Lq, dim).
            grid: Reference points of the queries in the levels of `feat`.
            feat: (B, S, dim), the levels one after the other.

        Returns:
            (B, Lq, dim).
        """
        batch, queries, _ = query.shape
        value = self.value_proj(feat)
        value = value.view(*value.shape[:2], self.num_heads, value.shape[2] // self.num_heads)
        layout = (batch, queries, self.num_heads, self.num_levels, self.num_points)
        weights = self.attention_weights(query).view(*layout[:3], layout[3] * layout[4])
        weights = _softmax(_at_least_float32(weights)).view(layout)
        offsets = _at_least_float32(self.sampling_offsets(query)).view(*layout, 2)
        out = ms_deform_attn(value, grid.shapes, grid.locations(offsets), weights, grid=grid)
        return self.output_proj(out)


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _softmax(x: Tensor) -> Tensor:
    """Compute the softmax of the last dimension; torch's is slow on CPUs where that is short."""
    if x.device.type != 'cpu':
        return x.softmax(-1)
    x = (x - x.detach().amax(-1, keepdim=True)).exp()
    return x / x.sum(-1, keepdim=True)
