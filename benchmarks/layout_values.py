"""Weights and images from a formula: the same on every machine, by name and shape alone.

`layout_parity.py` gives them to the authors' modules, `tests/checkpoint/test_author_layouts.py`
to files of the same names, so that no weights need to be kept.
"""

import math
import zlib

import torch
from torch import Tensor

TABLES = ('pos_emb', 'token', 'table', 'rel_pos', 'probe')


def fill(seed: int, shape: tuple[int, ...]) -> Tensor:
    """Values in -1..1 without visible order."""
    index = torch.arange(math.prod(shape), dtype=torch.float64)
    return torch.sin(0.37 * index * index + 1.7 * seed).float().reshape(shape)


def value(name: str, shape: tuple[int, ...]) -> Tensor:
    """One parameter, of the size that its part in a ViT asks for."""
    wave = fill(zlib.crc32(name.encode()) % 997, shape)
    if 'gamma' in name or name.endswith('scale'):
        return 1 + 0.2 * wave
    if len(shape) > 1 and not name.endswith('bias'):
        table = name == 'cls' or any(part in name for part in TABLES)
        return wave * (0.5 if table else math.prod(shape[1:]) ** -0.5)
    if name.endswith('weight'):
        return 1 + 0.2 * wave
    return 0.1 * wave


def image(height: int, width: int) -> Tensor:
    """(2, 3, height, width)."""
    return fill(7, (2, 3, height, width))
