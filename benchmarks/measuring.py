"""What the speed benchmarks measure: time, memory at its peak, multiply-adds.

Memory is what one step needs at its peak beyond what is held before it: on CUDA by torch's
allocator, on Linux CPUs by the process's resident set. An allocator keeps what earlier steps freed,
which hides a peak or shifts it; `in_fresh_process` gives a step a process of its own.
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
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

# 'cpu' is what this process itself worked, in all threads: not disturbed by who shares the cores
CLOCKS = {'wall': time.perf_counter, 'cpu': time.process_time}


def forward(model: Callable, image: Tensor) -> None:
    """One forward without a graph."""
    with torch.inference_mode():
        model(image)


def forward_backward(model: Callable, image: Tensor) -> None:
    """One training step without the optimizer's part."""
    torch.stack([x.float().square().mean() for x in model(image)]).sum().backward()


def seconds(step: Callable, model: Callable, image: Tensor, clock: str = 'wall') -> float:
    """Time of one step by one of `CLOCKS`, kernels finished."""
    now = CLOCKS[clock]
    if image.is_cuda:
        torch.cuda.synchronize()
    start = now()
    step(model, image)
    if image.is_cuda:
        torch.cuda.synchronize()
    return now() - start


def peak_bytes(step: Callable, model: Callable, image: Tensor) -> int | None:
    """Memory at its peak beyond what is held before and after; None where it can't be had."""
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
    ctypes.CDLL(None).malloc_trim(0)  # memory that the allocator kept would hide the peak
    Path('/proc/self/clear_refs').write_text('5')  # resets the high-water mark
    before = _status('VmRSS')
    step(model, image)
    return _status('VmHWM') - before


def _status(field: str) -> int:
    """A figure of this process in bytes."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f'this kernel does not report {field}')


def multiply_adds(model: nn.Module, image: Tensor) -> float:
    """Of one forward: matrix products, convolutions and attention.

    Counted without computing anything, on the meta device: torch's counter does not know the fused
    attention of CPUs and would leave it out there. Sampling of the deformable attention and
    elementwise work do not count.
    """
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        copy.deepcopy(model).eval().to('meta')(image.to('meta'))
    return counter.get_total_flops() / 2


def in_fresh_process(function: Callable, *args: Any) -> Any:
    """The result of `function(*args)`, computed in a new process that ends afterwards."""
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *args).result()
