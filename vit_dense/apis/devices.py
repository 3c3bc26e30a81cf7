"""Which device a model runs on."""

import contextlib
from pathlib import Path

import torch


def choose_device(name: str) -> torch.device:
    """Return a device: 'auto' for a GPU if there is one, 'cpu', 'cuda', 'cuda:1', ...

    Raises:
        ValueError: There is no such device.
    """
    if name == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device={name!r}: give 'auto', 'cpu', 'cuda' or 'cuda:N'.") from error
    if device.type == 'cuda' and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f'device={name!r}: PyTorch sees {torch.cuda.device_count()} GPUs here. Use '
            "device='cpu'; `vit-dense doctor` shows what PyTorch was built for."
        )
    return device


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that a process can still take on `device`; None if that is unknown.

    Of a CPU, what Linux states (`MemAvailable`), or what the limit of a container leaves.
    """
    if device.type == 'cuda':
        return int(torch.cuda.mem_get_info(device)[0])
    found = []
    with contextlib.suppress(OSError, ValueError, KeyError):
        found.append(_table(Path('/proc/meminfo'))['MemAvailable:'] * 1024)
    with contextlib.suppress(OSError, ValueError, KeyError):
        group = Path('/sys/fs/cgroup')
        limit, used = (int((group / f'memory.{one}').read_text()) for one in ('max', 'current'))
        found.append(limit - used + _table(group / 'memory.stat')['inactive_file'])
    return min(found, default=None)


def _table(path: Path) -> dict[str, int]:
    """Read lines of a name and a number."""
    return {name: int(number) for name, number, *_ in map(str.split, path.open())}
