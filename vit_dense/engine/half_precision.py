"""Warn where bfloat16 is slower than float32."""

import logging

import torch
from mmengine.logging import print_log

from ..cpu import has_bfloat16_units


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
