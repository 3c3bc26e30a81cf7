"""`nn.SyncBatchNorm` on CPUs, where PyTorch raises an error in training with several processes.

Without it the statistics of a batch norm would be each process's own, and training with two
processes would differ from one process at the same global batch.
"""

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

__all__ = ['install']

_torch_forward = nn.SyncBatchNorm.forward


def install() -> None:
    """Replace `SyncBatchNorm.forward`; it is unchanged for all inputs that PyTorch accepts."""
    nn.SyncBatchNorm.forward = _forward  # type: ignore[method-assign]
    # It only raises an error for models on the CPU that have the layer.
    DistributedDataParallel._passing_sync_batchnorm_handle = _accept  # type: ignore[method-assign]


def _accept(self: DistributedDataParallel, module: nn.Module) -> None:
    pass


def _forward(self: nn.SyncBatchNorm, input: Tensor) -> Tensor:
    """Normalise (B, C, ...) with the statistics of all processes."""
    if input.device.type != 'cpu' or not self.training or not distributed.is_initialized():
        return _torch_forward(self, input)
    group = self.process_group or distributed.group.WORLD
    if distributed.get_world_size(group) == 1:
        return _BatchNorm.forward(self, input)
    dims = [0, *range(2, input.dim())]
    shape = [1, -1, *[1] * (input.dim() - 2)]
    x = input.float()
    count = x.new_tensor([x.numel() / x.shape[1]])
    sums, total = _sum(torch.cat([x.sum(dims), count]), group).split([x.shape[1], 1])
    mean = sums / total  # (C,)
    centred = x - mean.view(shape)
    variance = _sum(centred.square().sum(dims), group) / total
    if self.track_running_stats:
        _update(self, mean.detach(), (variance * total / (total - 1)).detach())
    out = centred * (variance + self.eps).rsqrt().view(shape)
    if self.affine:
        out = out * self.weight.view(shape) + self.bias.view(shape)
    return out.to(input.dtype)


def _sum(x: Tensor, group: distributed.ProcessGroup | None) -> Tensor:
    """Sum over the processes; the gradient is summed as well."""
    from torch.distributed.nn.functional import all_reduce  # it imports much, for no other user

    return all_reduce(x, group=group)


def _update(norm: Any, mean: Tensor, variance: Tensor) -> None:
    """Update the running statistics with those of a batch; `variance` is the unbiased one."""
    count, *running = norm.num_batches_tracked, norm.running_mean, norm.running_var
    count.add_(1)
    factor = norm.momentum if norm.momentum is not None else 1 / count.item()
    for old, new in zip(running, (mean, variance), strict=True):
        old.lerp_(new, factor)
