"""Blocks of a ViT as units of FSDP2 (`torch.distributed.fsdp.fully_shard`).

A block runs up to four times in windows, gets biases computed from its own parameters and may be
run again by gradient checkpointing. All of this happens inside one call of its unit, so that its
parameters are gathered once, whatever the size of the images: the processes, whose images differ in
size, stay in step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

_UNIT = 'run_unit'


def shard_block(block: nn.Module, shard: Callable[[nn.Module], Any]) -> None:
    """Make `block` a unit of its own; `shard` calls `fully_shard` with the user's options."""
    from torch.distributed.fsdp import register_fsdp_forward_method

    shard(block)
    block.run_unit = lambda run, tokens: run(tokens)  # type: ignore[assignment]
    register_fsdp_forward_method(block, _UNIT)


def run_unit(block: nn.Module, run: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
    """Return `run(tokens)`; if `block` is a unit, its parameters are whole inside `run`."""
    unit = getattr(block, _UNIT, None)
    return run(tokens) if unit is None else unit(run, tokens)


def call_block(block: nn.Module, tokens: Tensor, **kwargs: Any) -> Tensor:
    """Call `block`, inside `run_unit` without the hooks that gather parameters."""
    if getattr(block, _UNIT, None) is None:
        return block(tokens, **kwargs)
    for name, value in kwargs.items():
        if isinstance(value, Tensor) and value.is_floating_point():
            kwargs[name] = value.to(tokens.dtype)  # the unit's, see `MixedPrecisionPolicy`
    return block.forward(tokens, **kwargs)
