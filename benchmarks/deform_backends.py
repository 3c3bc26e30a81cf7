"""Backends of multi-scale deformable attention, ours and others', on one device.

A backend takes `(value, spatial_shapes, locations, weights)` with the shapes of
`vit_dense.ops.ms_deform_attn` and returns `(B, Lq, heads * head_dim)` in the dtype of `value`.
Packages that are not installed are rows without figures.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from itertools import product
from typing import TYPE_CHECKING

import torch
from measuring import peak_bytes, seconds
from tables import print_header, print_row
from torch import Tensor

from vit_dense.ops.ms_deform_attn import _by_embedding_bag, _by_grid_sample
from vit_dense.ops.native import native_ms_deform_attn
from vit_dense.ops.sampling_grid import LevelSizes

if TYPE_CHECKING:
    from gpu_sections import Setting

Shapes = list[tuple[int, int]]
Backend = Callable[[Tensor, Shapes, Tensor, Tensor], Tensor]
COLUMNS = (
    *('backend', 'px', 'layer', 'dtype', 'batch', 'forward ms', 'forward+backward ms'),
    *('peak MiB', 'difference'),
)
# ViT-Adapter-B: 12 heads over half of 768 channels, 4 points
HEADS, HEAD_DIM, POINTS = 12, 32, 4
BATCHES = {64: 1, 512: 8, 1024: 2}
REPEATS = 10


def grid_sample() -> Backend:
    """Return this package's backend on GPUs without compiled mmcv."""
    return lambda value, shapes, locations, weights: _by_grid_sample(
        value.float(), shapes, locations, weights
    ).to(value.dtype)


def compiled_grid_sample() -> Backend:
    """Return the same under torch.compile."""
    torch.compiler.reset()  # or after some sizes it would run uncompiled
    return torch.compile(grid_sample(), dynamic=False)


def embedding_bag() -> Backend:
    """Return this package's backend on CPUs."""

    def run(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
        with torch.device(value.device):
            return _by_embedding_bag(value.float(), shapes, locations, weights).to(value.dtype)

    return run


def mmcv_kernel() -> Backend:
    """Return mmcv's CUDA kernel."""
    native = native_ms_deform_attn()
    if native is None:
        raise ImportError('not installed (compiled mmcv)')

    def run(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
        levels = LevelSizes.of(shapes, value.device)
        return native(value.float(), levels, locations, weights).to(value.dtype)

    return run


def ms_deform_attn_package() -> Backend:
    """Return the CUDA kernel of Deformable DETR, as the package ms-deform-attn has it."""
    from functions.ms_deform_attn_func import MSDeformAttnFunction

    def run(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
        levels = LevelSizes.of(shapes, value.device)
        arguments = (levels.sizes, levels.starts, locations, weights, len(value))
        return MSDeformAttnFunction.apply(value.float(), *arguments).to(value.dtype)

    return run


def triton() -> Backend:
    """Return the Triton kernel of the package deformops, which takes bfloat16 as it is."""
    from deformops.registry import Backend as Kind
    from deformops.registry import msda

    def run(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
        levels = LevelSizes.of(shapes, value.device)
        sizes = (levels.sizes, levels.starts)
        kind = Kind.TRITON if value.is_cuda else Kind.EAGER
        weights = weights.to(value.dtype)
        return msda(value, *sizes, locations, weights, method='linear', backend=kind)

    return run


BACKENDS: dict[str, Callable[[], Backend]] = {
    'grid_sample': grid_sample,
    'embedding_bag': embedding_bag,
    'mmcv': mmcv_kernel,
    'deformops (Triton)': triton,
    'ms-deform-attn (CUDA)': ms_deform_attn_package,
    'grid_sample, compiled': compiled_grid_sample,
}


def inputs(layer: str, size: int, batch: int, dtype: torch.dtype, device: str) -> tuple:
    """Return random operands of an injector or extractor for images of `size` pixels."""
    pyramid = [(-(-size // stride),) * 2 for stride in (8, 16, 32)]
    tokens = [pyramid[1]]
    shapes, asking = (pyramid, tokens) if layer == 'injector' else (tokens, pyramid)
    queries, length = (sum(h * w for h, w in one) for one in (asking, shapes))
    torch.manual_seed(0)
    value = torch.randn(batch, length, HEADS, HEAD_DIM, device=device, dtype=dtype)
    layout = (batch, queries, HEADS, len(shapes), POINTS)
    locations = torch.rand(*layout, 2, device=device)
    weights = torch.rand(layout, device=device) / (len(shapes) * POINTS)
    return shapes, value, locations, weights


def _row(
    build: Callable[[], Backend], layer: str, size: int, dtype: torch.dtype, setting: Setting
) -> list:
    backend = build()
    shapes, *operands = inputs(layer, size, BATCHES[size], dtype, setting.device)
    leaves = [x.requires_grad_() for x in operands]

    def attend() -> Tensor:
        return backend(leaves[0], shapes, leaves[1], leaves[2])

    def forward(*_: object) -> None:
        with torch.no_grad():
            for _ in range(repeats):
                attend()

    def both(*_: object) -> None:
        for _ in range(repeats):
            attend().sum().backward()

    repeats = 1  # compilation and tuning
    with torch.no_grad():
        expected = grid_sample()(leaves[0], shapes, leaves[1], leaves[2]).float()
        difference = (attend().float() - expected).abs().max() / expected.abs().max()
    forward(), both()
    peak = peak_bytes(both, attend, operands[0]) or 0
    repeats = 1 if setting.tiny else REPEATS
    times = [seconds(step, attend, operands[0]) / repeats for step in (forward, both)]
    figures = [f'{time * 1000:.2f}' for time in times]
    return [BATCHES[size], *figures, f'{peak / 2**20:.0f}', f'{difference:.0e}']


def compare(setting: Setting) -> None:
    """Measure every backend; the difference is the largest, relative to `grid_sample`."""
    print('Deformable attention of ViT-Adapter-B without its projections.\n')
    print_header(*COLUMNS)
    sizes = [64] if setting.tiny else [512, 1024]
    layers, dtypes = ('injector', 'extractor'), (torch.float32, torch.bfloat16)
    for name, build in BACKENDS.items():
        try:
            if setting.tiny and 'compiled' in name:
                raise ImportError('not tried at this size')
            build()
        except (ImportError, OSError) as error:
            print_row(name, f'not available: {error}', *[''] * (len(COLUMNS) - 2))
            continue
        for size, layer, dtype in product(sizes, layers, dtypes):
            start = (name, size, layer, str(dtype).removeprefix('torch.'))
            measure = functools.partial(_row, build, layer, size, dtype, setting)
            setting.attempt(start, measure, len(COLUMNS))
