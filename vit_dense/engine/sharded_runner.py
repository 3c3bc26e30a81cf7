"""A Runner that divides parameters, gradients and optimizer states among processes (FSDP2).

mmengine's own wrapper is FSDP1, which flattens parameters: it has no learning rate by layer and no
plain names in checkpoints. Here the model stays on the CPU until it is initialised, loaded and
sharded, so that no GPU ever holds the whole of it. The optimizer, which mmengine builds earlier and
which has no states until its first step, gets the sharded parameters. Checkpoints are those of the
plain Runner.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.hooks import EMAHook
from mmengine.model import convert_sync_batchnorm
from mmengine.optim import AmpOptimWrapper, OptimWrapperDict
from mmengine.registry import RUNNERS
from mmengine.runner import BaseLoop, Runner
from torch import nn

_SETTINGS: list[dict] = [{}, {'param_dtype': 'float32'}, {'param_dtype': 'bfloat16'}]


@RUNNERS.register_module()
class ShardedRunner(Runner):
    """mmengine's Runner, whose model is sharded by FSDP2 instead of copied to each process.

    It needs a launcher. Tests, and trainings of the plain Runner, read its checkpoints as any:

        runner_type = 'ShardedRunner'
        sharding = dict(param_dtype='bfloat16')  # may be left out

    `param_dtype` is 'float32' (default) or 'bfloat16', in which the blocks of the ViT compute. What
    the optimizer updates, the tokens between blocks, adapter and heads remain float32, and so does
    the average of gradients.

    During an evaluation every process holds all parameters, because the processes run the model on
    images of different sizes, and sliding windows would run it a different number of times.
    """

    _is_sharded = False

    def train(self) -> nn.Module:
        """Check the config, and train.

        Raises:
            ValueError: There is one process only, or the config has what cannot be sharded.
        """
        if (given := self.cfg.get('sharding') or {}) not in _SETTINGS:
            raise ValueError(
                f"sharding={given}: allowed is dict(param_dtype='float32') or 'bfloat16'."
            )
        if not self.distributed:
            raise ValueError(
                "runner_type='ShardedRunner' divides a model among processes, and this is one "
                'alone. Start torchrun --nproc_per_node=N tools/train.py CONFIG --launcher '
                'pytorch, or leave runner_type out.'
            )
        if self.cfg.get('model_wrapper_cfg'):
            raise ValueError('ShardedRunner replaces model wrappers: remove model_wrapper_cfg.')
        return super().train()

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Leave the model on the CPU, without a wrapper."""
        if not self.distributed:
            return super().wrap_model(model_wrapper_cfg, model)
        sync_bn = self.cfg.get('sync_bn')
        return model if sync_bn is None else convert_sync_batchnorm(model, sync_bn)

    def load_or_resume(self) -> None:
        """Load or resume; then shard the model for a training, or move it to its device."""
        super().load_or_resume()
        if self._is_sharded:
            return
        if isinstance(self._train_loop, BaseLoop):
            self._shard()
        else:
            self.model.to(get_device())

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Resume from a checkpoint, which is read into the memory of the CPU."""
        super().resume(filename, *args, **{'map_location': 'cpu', **kwargs})

    def _shard(self) -> None:
        """Shard the model, its averages, and the optimizer's states."""
        from .sharding import rebind_optimizer, shard_model

        if isinstance(self.optim_wrapper, OptimWrapperDict | AmpOptimWrapper):
            raise ValueError(
                f'ShardedRunner takes one OptimWrapper, got {type(self.optim_wrapper).__name__}: '
                "for mixed precision set sharding=dict(param_dtype='bfloat16') instead of --amp; "
                'for several optimizers leave runner_type out.'
            )
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        dtype = getattr(torch, (self.cfg.get('sharding') or {}).get('param_dtype', 'float32'))
        shard_model(self.model, dtype)
        rebind_optimizer(self.optim_wrapper.optimizer, names, dict(self.model.named_parameters()))
        for hook in self._ema_hooks():
            average, inner = hook.ema_model, hook.ema_model.module
            shard_model(inner, dtype)
            entries = inner.state_dict() if average.update_buffers else inner.named_parameters()
            average.avg_parameters = dict(entries)
            hook._swap_ema_parameters = partial(self._swap, hook._swap_ema_parameters)
        self._is_sharded = True

    def _ema_hooks(self) -> list[EMAHook]:
        return [hook for hook in self.hooks if isinstance(hook, EMAHook)]

    def _swap(self, swap: Callable[[], None]) -> None:
        """Swap the weights with their averages, of which each process holds a part."""
        from .sharding import release

        release(self.model)
        swap()

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call the hooks; between those before and after an evaluation, parameters are whole."""
        from .sharding import hold_whole, release

        if self._is_sharded and fn_name in ('after_val_epoch', 'after_test_epoch'):
            release(self.model)
        super().call_hook(fn_name, **kwargs)
        if self._is_sharded and fn_name in ('before_val_epoch', 'before_test_epoch'):
            hold_whole(self.model)

    def save_checkpoint(self, *args: Any, save_optimizer: bool = True, **kwargs: Any) -> None:
        """Save whole tensors under plain names; every process must call it."""
        from .sharding import whole_states

        owners: list[Any] = []
        if self._is_sharded:
            owners = [self.model, *(hook.ema_model for hook in self._ema_hooks())]
            owners += [self.optim_wrapper] * save_optimizer
        with whole_states(owners):
            super().save_checkpoint(*args, save_optimizer=save_optimizer, **kwargs)
