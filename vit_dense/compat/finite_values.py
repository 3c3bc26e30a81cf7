"""Find NaN and infinity in checkpoints.

Buffers may hold infinity by design, such as attention masks with -inf, but not NaN. Parameters,
their averages and the states of optimizers may hold neither.
"""

from collections.abc import Container, Iterator
from typing import Any

import torch
from torch import Tensor

__all__ = ['iter_tensors', 'list_non_finite']


def iter_tensors(value: Any, name: str = '') -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in nested dicts, lists and tuples with their dotted names."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from iter_tensors(item, f'{name}.{key}' if name else str(key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from iter_tensors(item, f'{name}.{index}')


def list_non_finite(value: Any, buffers: Container[str] = ()) -> list[str]:
    """Return the names of floating-point tensors with NaN or infinity; one pass, without copies.

    Args:
        value: A tensor, or a nested container such as a state dict.
        buffers: Names of tensors in which infinity is accepted.
    """
    return [name for name, tensor in iter_tensors(value) if not _is_finite(tensor, name in buffers)]


def _is_finite(tensor: Tensor, accept_infinity: bool) -> bool:
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    elif not tensor.is_floating_point():
        return True
    if tensor.is_meta or tensor.layout != torch.strided or not tensor.numel():
        return True
    storage = tensor.untyped_storage()
    if tensor.numel() * tensor.element_size() > storage.nbytes():
        # An expanded view: the size that a file states for it has no bound.
        tensor = torch.empty(0, dtype=tensor.dtype, device=tensor.device).set_(storage)
    if tensor.element_size() == 1:  # 8-bit formats have few operators
        tensor = tensor.float()
    ends = torch.stack(torch.aminmax(tensor.detach()))  # NaN if any value is
    return not bool((ends.isnan() if accept_infinity else ~ends.isfinite()).any())
