"""Divide a model, its averages and its optimizer among processes with FSDP2, and gather them again.

Each block of a ViT is a unit of `torch.distributed.fsdp.fully_shard`, and the model is the root.
Parameters become `DTensor`s, each divided along its first dimension, under their own names.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import get_world_size, is_main_process
from mmengine.logging import print_log
from mmengine.model import BaseDataPreprocessor
from mmengine.utils import apply_to
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def shard_model(model: nn.Module, dtype: torch.dtype = torch.float32) -> None:
    """Divide `model` among all processes, in place, on their devices.

    Args:
        model: Modules with a method `shard_blocks`, such as `TimmViT`, are divided by blocks.
        dtype: In which those blocks compute.

    Raises:
        ValueError: A parameter has no dimension.
    """
    if scalars := [name for name, one in model.named_parameters() if one.ndim == 0]:
        raise ValueError(
            f'ShardedRunner cannot divide parameters without a dimension: {", ".join(scalars)}. '
            'Use a head without them, or leave runner_type out.'
        )
    device = get_device()
    shard = partial(fully_shard, mesh=init_device_mesh(device, (get_world_size(),)))
    of_root = of_block = MixedPrecisionPolicy(reduce_dtype=torch.float32)
    if dtype != torch.float32:
        of_block = MixedPrecisionPolicy(dtype, torch.float32, output_dtype=torch.float32)
    for module in list(model.modules()):
        if shard_blocks := getattr(module, 'shard_blocks', None):
            shard_blocks(partial(shard, mp_policy=of_block, reshard_after_forward=True))
        elif isinstance(module, BaseDataPreprocessor):
            module.to(device)
    # The backward pass starts with the root's parameters: they are kept for it.
    shard(model, mp_policy=of_root, reshard_after_forward=False)
    units = sum(isinstance(module, FSDPModule) for module in model.modules())
    own = sum(one.to_local().numel() for one in model.parameters() if isinstance(one, DTensor))
    total = sum(one.numel() for one in model.parameters())
    print_log(
        f'{type(model).__name__} is sharded in {units} units: the main process holds {own:,} of '
        f'{total:,} parameters.',
        logger='current',
    )


def rebind_optimizer(
    optimizer: torch.optim.Optimizer,
    names: Mapping[Tensor, str],
    parameters: Mapping[str, nn.Parameter],
) -> None:
    """Replace whole parameters in `optimizer` by the sharded ones of the same name.

    Args:
        optimizer: Built, and possibly resumed, before the model was sharded.
        names: Names of the parameters before.
        parameters: Parameters by name, afterwards.
    """
    for group in optimizer.param_groups:
        group['params'] = [parameters[names[one]] for one in group['params']]
        if group.get('foreach', False) is None and not group.get('fused'):
            group['foreach'] = True  # PyTorch's default for `DTensor`s is a slow loop
    for old, state in list(optimizer.state.items()):
        new = parameters[names[old]]
        del optimizer.state[old]
        optimizer.state[new] = {key: _divide_as(new, value) for key, value in state.items()}


def _divide_as(parameter: Any, value: Any) -> Any:
    """Divide a state of the optimizer as its parameter is, if it has its shape."""
    if not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value
    mesh, placements = parameter.device_mesh, parameter.placements
    return distribute_tensor(value.to(parameter.device), mesh, placements)


def hold_whole(model: nn.Module) -> None:
    """Gather all parameters, and keep them across forwards, until `release`."""
    for module in _units(model):
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()


def release(model: nn.Module) -> None:
    """Free what `hold_whole` gathered."""
    for module in _units(model):
        module.set_reshard_after_forward(module is not model, recurse=False)
        module.reshard()


def _units(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, FSDPModule)]


@contextmanager
def whole_states(owners: Iterable[Any]) -> Iterator[None]:
    """Let `state_dict()` of each owner return whole tensors, on the CPU of the main process.

    All processes gather; mmengine then calls `state_dict()` in the main process alone.
    """
    owners = list(owners)
    for owner in owners:
        state = owner.state_dict()
        whole = apply_to(state, lambda value: isinstance(value, DTensor), _gather)
        if hasattr(state, '_metadata'):
            whole._metadata = state._metadata
        owner.state_dict = lambda *_, whole=whole, **__: whole
    try:
        yield
    finally:
        for owner in owners:
            del owner.state_dict


def _gather(value: DTensor) -> Tensor | None:
    whole = value.full_tensor()
    return whole.cpu() if is_main_process() else None
