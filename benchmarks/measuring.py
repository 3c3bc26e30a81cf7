"""Measure time, peak memory, saved activations and multiply-adds.

Peak memory is what one step needs beyond what is allocated before it: on CUDA from torch's
allocator, on Linux CPUs from the resident set of the process. An allocator keeps what earlier steps
freed, which hides or shifts a peak; `in_fresh_process` runs a step in a process of its own.
"""

from __future__ import annotations

import copy
import ctypes
import gc
import multiprocessing
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, UntypedStorage, nn
from torch.utils.flop_counter import FlopCounterMode

# 'cpu' is the CPU time of this process in all threads, whatever else runs on the cores
CLOCKS = {'wall': time.perf_counter, 'cpu': time.process_time}


def forward(model: Callable, image: Tensor) -> None:
    """Run a forward without a graph."""
    with torch.inference_mode():
        model(image)


def forward_backward(model: Callable, image: Tensor) -> None:
    """Run a training step without the optimizer."""
    # `mean` would give gradients in another memory format than convolutions of heads do
    torch.stack([x.float().square().sum() / x.numel() for x in model(image)]).sum().backward()


def seconds(step: Callable, model: Callable, image: Tensor, clock: str = 'wall') -> float:
    """Return the time of one step by one of `CLOCKS`, including all kernels."""
    now = CLOCKS[clock]
    if image.is_cuda:
        torch.cuda.synchronize()
    start = now()
    step(model, image)
    if image.is_cuda:
        torch.cuda.synchronize()
    return now() - start


def peak_bytes(step: Callable, model: Callable, image: Tensor) -> int | None:
    """Return peak memory beyond what is allocated before; None where it is not available."""
    gc.collect()
    if image.is_cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(model, image)
        return torch.cuda.max_memory_allocated() - before
    if not sys.platform.startswith('linux'):
        step(model, image)
        return None
    ctypes.CDLL(None).malloc_trim(0)  # memory kept by the allocator would hide the peak
    Path('/proc/self/clear_refs').write_text('5')  # resets the high-water mark
    before = _status('VmRSS')
    step(model, image)
    return _status('VmHWM') - before


def saved_bytes(model: nn.Module, image: Tensor) -> int:
    """Return the bytes that autograd keeps for the backward pass of one forward.

    Parameters and buffers are not counted, and memory that several tensors share is counted once.
    """
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()  # held, so that no other gets its address
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        maps = model(image)
    del maps
    return sum(storage.nbytes() for storage in kept.values())


def _status(field: str) -> int:
    """Return a field of this process's status in bytes."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f'this kernel does not report {field}')


def multiply_adds(model: nn.Module, image: Tensor) -> float:
    """Count those of one forward: matrix products, convolutions and attention.

    The forward runs on the meta device, since torch's counter ignores the fused attention of CPUs.
    The sampling of deformable attention and elementwise operations are not counted.
    """
    counter = FlopCounterMode(display=False)
    model = copy.deepcopy(model).to('meta')
    model.eval()  # not chained: mmseg's ViT returns nothing
    with counter, torch.no_grad():
        model(image.to('meta'))
    return counter.get_total_flops() / 2


def in_fresh_process(function: Callable, *args: Any) -> Any:
    """Return `function(*args)`, computed in a new process that ends afterwards."""
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *args).result()
