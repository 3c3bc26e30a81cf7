"""Several processes on machines without GPU, and clear errors for wrong launches.

mmengine 0.10.7 selects a GPU in every process, and gives its index to DistributedDataParallel. On a
machine without one, 'nccl' becomes 'gloo' here and both are left out. A backend that works on CPUs
stays as configured.

When torchrun restarts its processes, torch 2.11 gives them the store of the attempt before. They
find the addresses of ended processes in it, and often fail to connect, so each attempt gets a part
of the store for itself. On several machines each agent of torchrun counts its own restarts, so the
numbers differ: there the variable TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 makes torch create a new
store for each attempt.
"""

import os
from typing import Any

import mmengine.dist
import torch
from mmengine.device import get_device
from mmengine.model import MMDistributedDataParallel
from mmengine.runner import runner as mmengine_runner
from torch import nn
from torch.distributed import PrefixStore, TCPStore

__all__ = ['install']

# What the program of a launcher sets in the environment of its processes, and how to start it.
_STARTED_BY = {
    'pytorch': (
        ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'),
        'torchrun --nproc_per_node=N',
    ),
    'slurm': (('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST'), 'srun --ntasks=N python'),
    'mpi': (
        tuple(f'OMPI_COMM_WORLD_{one}' for one in ('RANK', 'LOCAL_RANK', 'SIZE')),
        'mpirun -n N python',
    ),
}
_mmengine_init_dist = mmengine.dist.init_dist
_mmengine_init = MMDistributedDataParallel.__init__


def install() -> None:
    """Replace `init_dist` and the constructor of `MMDistributedDataParallel`."""
    mmengine.dist.init_dist = mmengine_runner.init_dist = _init_dist
    MMDistributedDataParallel.__init__ = _init


def _init_dist(launcher: str, backend: str = 'nccl', **options: Any) -> None:
    """Start the process group, with 'gloo' instead of 'nccl' on a machine without GPU.

    Raises:
        ValueError: The launcher's program did not start this process, or started more processes
            than there are GPUs.
    """
    names, command = _STARTED_BY.get(launcher, ((), ''))
    if absent := [name for name in names if name not in os.environ]:
        raise ValueError(
            f'--launcher {launcher}, but {", ".join(absent)} are not set in the environment: start '
            f'with {command} tools/train.py CONFIG --launcher {launcher}. For a single process '
            'leave --launcher out.'
        )
    if launcher == 'pytorch' and _has_store_of_before():
        options.update(_store_of_attempt())
    if get_device() == 'cpu':
        _init_without_gpu(launcher, 'gloo' if backend == 'nccl' else backend, **options)
        return
    gpus = torch.cuda.device_count()
    if launcher == 'pytorch' and 0 < gpus <= int(os.environ['LOCAL_RANK']):
        raise ValueError(
            f'Process {int(os.environ["LOCAL_RANK"]) + 1} of this machine has no GPU: PyTorch sees '
            f'{gpus}. Start at most {gpus} processes per machine (torchrun --nproc_per_node='
            f'{gpus}), or set CUDA_VISIBLE_DEVICES.'
        )
    _mmengine_init_dist(launcher, backend, **options)


def _has_store_of_before() -> bool:
    """Return whether this is a later attempt of torchrun on one machine, with a shared store."""
    expected = {'GROUP_WORLD_SIZE': '1', 'TORCHELASTIC_USE_AGENT_STORE': 'True'}
    return os.environ.get('TORCHELASTIC_RESTART_COUNT', '0') != '0' and all(
        os.environ.get(name, value) == value for name, value in expected.items()
    )


def _store_of_attempt() -> dict[str, Any]:
    """Return the arguments of `init_process_group` for the processes of this attempt alone."""
    rank, world_size, port = (int(os.environ[one]) for one in ('RANK', 'WORLD_SIZE', 'MASTER_PORT'))
    store = TCPStore(os.environ['MASTER_ADDR'], port, world_size, is_master=False)
    attempt = os.environ['TORCHELASTIC_RESTART_COUNT']
    return {
        'store': PrefixStore(f'attempt_{attempt}', store),
        'rank': rank,
        'world_size': world_size,
    }


def _init_without_gpu(launcher: str, backend: str, **options: Any) -> None:
    """Call mmengine's function without its `torch.cuda.set_device`, which fails without GPU."""
    set_device = torch.cuda.set_device
    torch.cuda.set_device = lambda device: None
    try:
        _mmengine_init_dist(launcher, backend, **options)
    finally:
        torch.cuda.set_device = set_device


def _init(self: MMDistributedDataParallel, module: nn.Module, *args: Any, **options: Any) -> None:
    """Build the wrapper; a module on the CPU gets no device indices."""
    if all(parameter.device.type == 'cpu' for parameter in module.parameters()):
        options.update(device_ids=None, output_device=None)
    _mmengine_init(self, module, *args, **options)
