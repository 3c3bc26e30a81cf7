"""Which device a model runs on."""

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
