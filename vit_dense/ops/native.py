"""GPU kernels of other packages for multi-scale deformable attention, where one is installed.

mmcv with compiled ops has one in CUDA, the package deformops one in Triton, which needs no build of
its own. On an H200, the Triton kernel takes a third of the time of `grid_sample` and a tenth of its
memory (benchmarks/gpu.py).
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
from collections.abc import Callable

import torch
from mmengine.logging import print_log
from torch import Tensor

from .sampling_grid import LevelSizes

NativeOp = Callable[[Tensor, LevelSizes, Tensor, Tensor], Tensor]


@functools.cache
def native_ms_deform_attn() -> NativeOp | None:
    """Return the op of mmcv or of deformops, or None where there is none for CUDA.

    Its arguments are those of `ms_deform_attn`, with the sizes of the levels on the device.
    """
    return _mmcv_op() or _triton_op()


def _mmcv_op() -> NativeOp | None:
    if importlib.util.find_spec('mmcv') is None:
        return None
    try:
        extension = importlib.import_module('mmcv._ext')
    except ImportError:
        return None
    # our own stand-in for `mmcv._ext` is Python and leads back here: only a binary is native
    if not str(getattr(extension, '__file__', '')).endswith(('.so', '.pyd')):
        return None
    if extension.get_compiling_cuda_version() == 'not available':  # a build for CPUs only
        return None
    # mmcv.ops itself does not export it
    module = importlib.import_module('mmcv.ops.multi_scale_deform_attn')
    function = module.MultiScaleDeformableAttnFunction

    @torch.compiler.disable
    def native(value: Tensor, levels: LevelSizes, locations: Tensor, weights: Tensor) -> Tensor:
        # the last argument is the number of images per kernel call: the whole batch
        return function.apply(
            value.contiguous(),
            levels.sizes,
            levels.starts,
            locations.contiguous(),
            weights.contiguous(),
            value.shape[0],
        )

    return native


def _triton_op() -> NativeOp | None:
    if importlib.util.find_spec('deformops') is None:
        return None
    try:
        from deformops.registry import Backend, msda

        @torch.compiler.disable
        def native(value: Tensor, levels: LevelSizes, locations: Tensor, weights: Tensor) -> Tensor:
            # the kernel has no float64
            backend = Backend.EAGER if value.dtype == torch.float64 else Backend.TRITON
            operands = (value, levels.sizes, levels.starts, locations, weights)
            output: Tensor = msda(*operands, method='linear', backend=backend)
            return output

        if torch.cuda.is_available():
            _try(native)
    except Exception as error:  # Triton needs a C compiler at run time, and a recent GPU
        print_log(
            f'deformops cannot be used ({type(error).__name__}: {error}): deformable attention '
            'runs in plain PyTorch, which is slower.',
            logger='current',
            level=logging.WARNING,
        )
        return None
    return native


def _try(op: NativeOp) -> None:
    """Sample one point on the GPU, forward and backward."""
    value = torch.zeros(1, 4, 1, 32, device='cuda', requires_grad=True)
    levels = LevelSizes.of([(2, 2)], value.device)
    weights = torch.ones(1, 1, 1, 1, 1, device='cuda')
    op(value, levels, torch.zeros(1, 1, 1, 1, 1, 2, device='cuda'), weights).sum().backward()
