"""mmcv's compiled CUDA kernel for multi-scale deformable attention, where the user has one."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable

import torch
from torch import Tensor

from .sampling_grid import LevelSizes

NativeOp = Callable[[Tensor, LevelSizes, Tensor, Tensor], Tensor]


@functools.cache
def native_ms_deform_attn() -> NativeOp | None:
    """Return mmcv's compiled op, or None where there is none for CUDA.

    Its arguments are those of `ms_deform_attn`, with the sizes of the levels on the device.
    """
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
