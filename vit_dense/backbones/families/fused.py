"""Switch timm's fused attention off for a while."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def explicit_attention(modules: Iterable[Any]) -> Iterator[None]:
    """Compute attention in steps (product, softmax, product) where a module would fuse them."""
    fused = [module for module in modules if getattr(module, 'fused_attn', False)]
    for module in fused:
        module.fused_attn = False
    try:
        yield
    finally:
        for module in fused:
            module.fused_attn = True
