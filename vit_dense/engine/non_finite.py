"""Stop a training whose loss or gradient is no finite number, before it reaches the weights."""

import logging
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import nn
from torch.optim import Optimizer

from ..compat.checkpoint_writing import read_last_checkpoint
from .wrappers import unwrap

_FOLDER = 'non_finite'
_SHOWN_FILES = 8
# A dynamic loss scale starts at 2^16 and is halved by each step that overflows.
_MIN_SCALE = 2.0**-14


class NonFiniteError(FloatingPointError):
    """A loss or a gradient is NaN or infinite."""


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Check losses and the norm of the gradient before each update of the weights.

    If one of them is not finite in any process, no process updates. The first `max_skips` such
    updates of a run are left out, and buffers such as the statistics of batch norm get back their
    values. After that, `work_dir/non_finite/iter_N.pth` is written, a checkpoint of the N
    iterations before, and the training ends.

    A dynamic loss scale (float16) leaves out updates by itself; here the training ends if the scale
    falls below 2^-14, that is, if losses or gradients stay infinite.

    Args:
        max_skips: Number of updates to leave out; 0 to end the training at the first.
    """

    priority = 'ABOVE_NORMAL'  # before weights are averaged or saved

    def __init__(self, *, max_skips: int = 0) -> None:
        if not isinstance(max_skips, int) or max_skips < 0:
            raise ValueError(
                f'max_skips={max_skips!r} of NonFiniteHook must be a whole number of 0 or more'
            )
        self.max_skips = max_skips
        self._skips = 0
        self._updated = True
        self._handles: list[Any] = []
        self._losses: list[tuple[str, torch.Tensor]] = []

    def before_train(self, runner: Runner) -> None:
        """Watch the model and its optimizers."""
        self._runner = runner
        model = unwrap(runner.model)
        saved = model.state_dict(keep_vars=True)
        self._buffers = [buffer for name, buffer in model.named_buffers() if name in saved]
        self._handles = [model.register_forward_hook(self._record, with_kwargs=True)]
        for wrapper in _wrappers(runner):
            if not _has_dynamic_scale(wrapper):
                hook = wrapper.optimizer.register_step_pre_hook(self._check_update)
                self._handles.append(hook)

    def after_train_loop(self, runner: Runner) -> None:
        """Watch no more."""
        for handle in self._handles:
            handle.remove()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Note the files of the batch, and copy the buffers before the first batch of an update."""
        if self._updated:
            self._updated = False
            self._start = {'iter': runner.iter, 'epoch': runner.epoch}
            self._copies = [buffer.detach().clone() for buffer in self._buffers]
            self._losses, self._files = [], list[str]()
        self._files += _files_of(data_batch)

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Check updates that a loss scale has left out, and the buffers between two updates."""
        wrapper = runner.optim_wrapper
        if isinstance(wrapper, OptimWrapperDict):
            self._updated = True
        elif _has_dynamic_scale(wrapper):
            self._updated = wrapper.should_update()
            self._restore_damaged_buffers()
            scale = wrapper.loss_scaler.get_scale()
            if scale < _MIN_SCALE:
                self._stop(f'loss or gradient (the loss scale fell to {scale:g})')
        elif wrapper.should_update() and not self._updated:
            self._updated = True
            self._handle(float('nan'), wrapper.optimizer)
        elif not wrapper.should_update():
            self._restore_damaged_buffers()  # a checkpoint may follow before the update

    def _record(self, module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        if kwargs.get('mode') != 'loss' or not isinstance(output, Mapping):
            return
        for name, value in output.items():
            if 'loss' in name:  # what mmengine's `parse_losses` adds up
                terms = value if isinstance(value, list | tuple) else [value]
                self._losses += [(name, one.detach().float().reshape(-1)) for one in terms]

    def _check_update(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Run before each step of an optimizer."""
        self._updated = True
        norm = self._gradient_norm(optimizer)
        value = torch.cat([norm.reshape(1), *(term for _, term in self._losses)]).sum()
        flag = (~value.isfinite()).float()
        all_reduce(flag, 'max')
        if flag.item():
            self._handle(norm.item(), optimizer)

    def _gradient_norm(self, optimizer: Optimizer) -> torch.Tensor:
        parameters = [p for group in optimizer.param_groups for p in group['params']]
        gradients = [p.grad for p in parameters if p.grad is not None]
        wrapper = next(w for w in _wrappers(self._runner) if w.optimizer is optimizer)
        if wrapper.clip_grad_kwargs and wrapper.grad_name == 'grad_norm' and gradients:
            # Clipping has measured it.
            value = self._runner.message_hub.get_scalar('train/grad_norm').current()
            return torch.tensor(value, device=gradients[0].device)
        norm = nn.utils.get_total_norm(gradients)
        return norm.full_tensor() if hasattr(norm, 'full_tensor') else norm

    def _handle(self, norm: float, optimizer: Optimizer) -> None:
        """Leave out this update, or end the training."""
        terms = ', '.join(f'{name} {term.mean().item():.4g}' for name, term in self._losses)
        cause = f'loss or gradient: {terms or "losses unknown"}, norm of the gradient {norm:.4g}'
        if self._skips >= self.max_skips:
            self._stop(cause)
        self._skips += 1
        self._restore_buffers()
        text = f'{self._describe(cause)}\nUpdate left out ({self._skips} of {self.max_skips}).'
        print_log(text, 'current', logging.WARNING)
        optimizer.zero_grad(set_to_none=True)

    def _restore_buffers(self) -> None:
        with torch.no_grad():
            for buffer, copy in zip(self._buffers, self._copies, strict=True):
                buffer.copy_(copy)

    def _restore_damaged_buffers(self) -> None:
        """Restore the buffers if a value has become NaN or infinite."""
        damaged = [
            (~buffer.isfinite() & copy.isfinite()).any()
            for buffer, copy in zip(self._buffers, self._copies, strict=True)
        ]
        if damaged and torch.stack(damaged).any():
            self._restore_buffers()

    def _describe(self, cause: str) -> str:
        """Return the causes and files of all processes."""
        files = ', '.join(self._files[:_SHOWN_FILES]) or 'unknown'
        found = all_gather_object(f'{cause}. Files: {files}')
        iteration = self._runner.iter + 1
        return f'Iteration {iteration}: not finite, ' + '\nother process: '.join(found)

    def _stop(self, cause: str) -> None:
        """Save the state before this update, and raise `NonFiniteError`."""
        self._restore_buffers()
        runner, text = self._runner, self._describe(cause)
        folder, name = Path(runner.work_dir, _FOLDER), f'iter_{self._start["iter"]}.pth'
        runner.save_checkpoint(str(folder), name, meta=self._start, by_epoch=False)
        last = read_last_checkpoint(runner.work_dir) or 'none'
        raise NonFiniteError(
            f'{text}\nThe weights were not changed. Last checkpoint: {last}. To leave out N such '
            'updates set default_hooks.non_finite.max_skips=N.\nTo repeat the update: '
            f'{_replay_command(runner, folder / name)}'
        )


def _replay_command(runner: Runner, file: Path) -> str:
    """Return the command that resumes from `file` with the config and processes of this run."""
    own = Path(runner.cfg.filename or 'CONFIG').resolve()
    # mmengine wrote the config to the work directory, with all options.
    config = Path(runner.work_dir, own.name)
    command = ['tools/train.py', config, '--work-dir', file.parent, '--resume', file]
    if runner.distributed:
        command += ['--launcher', runner.launcher]
    if runner.launcher == 'pytorch':
        command = ['torchrun', f'--nproc_per_node={get_world_size()}', *command]
    imports = (runner.cfg.get('custom_imports') or {}).get('imports', [])
    modules = [sys.modules.get(one) for one in ([imports] if isinstance(imports, str) else imports)]
    places = [Path(getattr(one, '__file__', None) or '.').resolve() for one in modules]
    if any(own.parent in place.parents for place in places):  # imported from beside the config
        command = ['env', f'PYTHONPATH={own.parent}', *command]
    return shlex.join(map(str, command))


def _wrappers(runner: Runner) -> list[OptimWrapper]:
    wrapper = runner.optim_wrapper
    return list(wrapper.values()) if isinstance(wrapper, OptimWrapperDict) else [wrapper]


def _has_dynamic_scale(wrapper: OptimWrapper) -> bool:
    """Return whether mixed precision adapts its loss scale; a fixed one cannot recover."""
    scaler = getattr(wrapper, 'loss_scaler', None)
    return scaler is not None and wrapper._scale_update_param is None and scaler.is_enabled()


def _files_of(batch: Any) -> list[str]:
    """Return the paths of the images in a batch, at any depth."""
    if isinstance(batch, BaseDataElement):
        return [str(path)] if (path := batch.get('img_path')) else []
    if isinstance(batch, Mapping):
        batch = list(batch.values())
    inner = batch if isinstance(batch, list | tuple) else []
    return [path for one in inner for path in _files_of(one)]
