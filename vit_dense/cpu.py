"""What the CPU can do; needs nothing but the standard library, as `vit-dense doctor`."""

import platform
from pathlib import Path

CPU_INFO = Path('/proc/cpuinfo')
# Flags there: x86 (AVX-512 and AMX), then Arm.
_BFLOAT16_FLAGS = {'avx512_bf16', 'amx_bf16', 'bf16'}


def has_bfloat16_units(cpu_info: Path = CPU_INFO) -> bool | None:
    """Return whether the CPU computes in bfloat16; None if that is not known."""
    if platform.system() != 'Linux' or not cpu_info.is_file():
        return None
    names = ('flags', 'Features')  # of x86 and of Arm
    lines = [line for line in cpu_info.read_text().splitlines() if line.startswith(names)]
    if not lines:
        return None
    return bool(_BFLOAT16_FLAGS & set(lines[0].split()))
