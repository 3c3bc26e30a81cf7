"""Say what to lower when a GPU's memory is not enough, with an estimate of what fits."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner


@contextmanager
def explain_out_of_memory(runner: Runner) -> Iterator[None]:
    """Replace PyTorch's out-of-memory error by advice on the settings of the runner's config.

    Raises:
        ValueError: The memory was not enough. The message names the settings to change, with an
            estimate of what the model and each image take.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ValueError(_message(runner)) from error


def _message(runner: Runner) -> str:
    in_training, trains = runner.model.training, isinstance(runner.optim_wrapper, OptimWrapper)
    split = 'train' if in_training else 'val' if trains else 'test'
    batch = runner.cfg[f'{split}_dataloader'].get('batch_size', 1)
    fixed = _fixed_bytes(runner)
    # What the process holds and what is free; other processes have the rest.
    limit = torch.cuda.memory_reserved() + torch.cuda.mem_get_info()[0]
    # At least this, since the step did not reach its end.
    image = max(torch.cuda.max_memory_allocated() - fixed, 1) / batch
    largest = max(1, min(int((limit - fixed) / image), batch - 1))
    lower = [f'{split}_dataloader.batch_size={batch} (at most {largest} may fit)'] * (batch > 1)
    lower.append(f'the size of images (crop_size={runner.cfg.get("crop_size")})')
    settings = _saving_settings(runner) if in_training else []
    limit_, fixed_, image_ = (f'{count / 2**30:.2f} GiB' for count in (limit, fixed, image))
    return (
        f'The memory of the GPU, {limit_}, is not enough: '
        f'{"weights, gradients and optimizer take" if trains else "weights take"} {fixed_}, each '
        f'image at least {image_}.\nLower {" or ".join(lower)}'
        f'{", or set " + " or ".join(settings) if settings else ""}.'
    )


def _fixed_bytes(runner: Runner) -> int:
    """Return the bytes of weights, gradients and optimizer state, also of those yet to come."""
    tensors = [*runner.model.parameters(), *runner.model.buffers()]
    copies = 0
    if isinstance(runner.optim_wrapper, OptimWrapper):
        defaults = runner.optim_wrapper.optimizer.defaults
        copies = 3 if 'betas' in defaults else 2 if defaults.get('momentum') else 1
    return sum(x.nbytes * (1 + copies * x.requires_grad) for x in tensors)


def _saving_settings(runner: Runner) -> list[str]:
    """Name the settings that save memory in training and are not in use."""
    found = ['--amp'] if type(runner.optim_wrapper) is OptimWrapper else []
    vit = runner.cfg.model.get('backbone', {}).get('vit')
    for name, value in (('grad_checkpointing', True), ('window_size', 14)):
        if vit is not None and not vit.get(name):
            found.append(f'model.backbone.vit.{name}={value}')
    return found
