"""Weights and images from a formula, by name and shape alone, and random weights from a seed.

With the formula no weights need to be stored: `parity.layouts` fills the modules of other authors
with it, `tests/weights/test_author_layouts.py` files of the same names.
"""

import math
import zlib

import torch
from torch import Tensor, nn

TABLES = ('pos_emb', 'position_emb', 'token', 'table', 'rel_pos', 'probe')


def fill(seed: int, shape: tuple[int, ...]) -> Tensor:
    """Return values in -1..1 without visible order."""
    index = torch.arange(math.prod(shape), dtype=torch.float64)
    return torch.sin(0.37 * index * index + 1.7 * seed).float().reshape(shape)


def value(name: str, shape: tuple[int, ...]) -> Tensor:
    """Return one parameter, scaled by its role in a ViT."""
    wave = fill(zlib.crc32(name.encode()) % 997, shape)
    if 'gamma' in name or 'lambda' in name or name.endswith('scale'):
        return 1 + 0.2 * wave
    if len(shape) > 1 and not name.endswith('bias'):
        table = name == 'cls' or any(part in name for part in TABLES)
        return wave * (0.5 if table else math.prod(shape[1:]) ** -0.5)
    if name.endswith('weight'):
        return 1 + 0.2 * wave
    return 0.1 * wave


def image(height: int, width: int) -> Tensor:
    """Return a batch of shape (2, 3, height, width)."""
    return fill(7, (2, 3, height, width))


@torch.no_grad()
def randomise(model: nn.Module, seed: int) -> None:
    """Set all tensors to random values as large as trained ones; maps stay within a few units."""
    generator = torch.Generator().manual_seed(seed)

    def noise(tensor: Tensor, scale: float) -> Tensor:
        return torch.randn(tensor.shape, generator=generator) * scale

    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        if name.endswith('running_var'):
            tensor.copy_(1 + noise(tensor, 0.3).abs())
        elif name.endswith('sampling_offsets.bias'):
            tensor.add_(noise(tensor, 0.5))  # heads keep their directions
        elif tensor.ndim >= 2:
            fan_in = tensor[0].numel() if 'embed' not in name.split('.')[-1] else 1
            tensor.copy_(noise(tensor, fan_in**-0.5))
        elif 'gamma' in name or (name.endswith('weight') and tensor.ndim == 1):
            tensor.copy_(1 + noise(tensor, 0.2))
        else:
            tensor.copy_(noise(tensor, 0.1))
