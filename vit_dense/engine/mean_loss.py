"""Log the mean of the losses over all processes; mmengine logs those of the main process."""

from typing import Any

import torch
from mmengine.dist import all_gather_object, all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class MeanLossHook(Hook):
    """Replace the losses of a training step by their mean over the processes.

    One collective operation a step; with a single process nothing happens. A loss that some
    processes lack is the mean of the others. A NaN of one process becomes the value of all.
    """

    # Before RuntimeInfoHook ('VERY_HIGH'), which passes the losses on to the logger.
    priority = 'HIGHEST'

    def __init__(self) -> None:
        self._names: list[str] = []

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Change the values of `outputs`."""
        if get_world_size() == 1 or not outputs:
            return
        if not self._names:
            # Tensors must have one size on all processes.
            self._names = sorted(set().union(*all_gather_object(list(outputs))))
        values = [torch.as_tensor(outputs.get(name, 0.0)).detach() for name in self._names]
        device = max((one.device for one in values), key=lambda one: one.type != 'cpu')
        present = torch.tensor([float(name in outputs) for name in self._names], device=device)
        means = torch.stack([torch.stack([one.to(present).mean() for one in values]), present])
        all_reduce(means)
        for name, total, count in zip(self._names, *means, strict=True):
            if name in outputs:
                outputs[name] = total / count
