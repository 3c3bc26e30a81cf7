"""Write checkpoints so that a kill or a full disk never costs one that was there before.

mmengine 0.10.7 writes over the old file, and `CheckpointHook` deletes old checkpoints before the
new one is written, also those of another run that was resumed from. Here a file is written under a
temporary name, flushed to the disk and renamed; old checkpoints are deleted after that, and only
inside the folder of the hook. A checkpoint with NaN or infinity is refused.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import mmengine.runner
import torch
from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.hooks import CheckpointHook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from .finite_values import iter_tensors, list_non_finite

__all__ = ['CheckpointWriteError', 'install', 'read_last_checkpoint', 'write_last_checkpoint']

_LAST = 'last_checkpoint'
_INTERRUPTED = re.compile(r'interrupted_iter_(\d+)\.pth')
_SHOWN = 5

_stock_save = mmengine.runner.checkpoint.save_checkpoint
_stock_save_best = CheckpointHook._save_best_checkpoint


class CheckpointWriteError(OSError, ValueError):
    """A checkpoint that could not be written, such as on a full disk."""


def install() -> None:
    """Replace mmengine's function and the methods of its `CheckpointHook`."""
    for module in (mmengine.runner, mmengine.runner.runner, mmengine.runner.checkpoint):
        vars(module).update(save_checkpoint=save_checkpoint)
    for method in (before_save_checkpoint, _save_checkpoint_with_step, _save_best_checkpoint):
        setattr(CheckpointHook, method.__name__, method)


def write_last_checkpoint(work_dir: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Record `path` as the checkpoint that `--resume` continues from."""
    _replace_file(Path(work_dir, _LAST), lambda file: file.write(os.fsencode(path)), 0)


def read_last_checkpoint(work_dir: str | os.PathLike[str]) -> str:
    """Return what `write_last_checkpoint` or mmengine recorded; empty if there is nothing."""
    with contextlib.suppress(OSError):
        return os.fsdecode(Path(work_dir, _LAST).read_bytes()).strip()
    return ''


def save_checkpoint(
    checkpoint: dict[str, Any],
    filename: str,
    file_client_args: dict[str, Any] | None = None,
    backend_args: dict[str, Any] | None = None,
) -> None:
    """Save a checkpoint; files that are not local are left to mmengine.

    Raises:
        CheckpointWriteError: The disk is full, or writing failed for another reason.
    """
    if (
        file_client_args is not None
        or filename.startswith('pavi://')
        or not isinstance(get_file_backend(filename, backend_args=backend_args), LocalBackend)
    ):
        _stock_save(checkpoint, filename, file_client_args, backend_args)
        return
    storages = (tensor.untyped_storage() for _, tensor in iter_tensors(checkpoint))
    size = sum({one.data_ptr(): one.nbytes() for one in storages}.values())
    _replace_file(Path(filename), lambda file: torch.save(checkpoint, file), size)


def _replace_file(path: Path, write: Callable[[IO[bytes]], object], size: int) -> None:
    """Write a file of about `size` bytes under a temporary name, and rename it when it is safe."""
    path = Path(os.path.realpath(path))  # a link stays a link
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.tmp')
    try:
        with temporary.open('wb') as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        # torch's writer raises a RuntimeError, whose context is the error of the file.
        cause = error.__context__ if isinstance(error, RuntimeError) else error
        if not isinstance(cause, OSError):
            raise
        free = shutil.disk_usage(path.parent).free
        raise CheckpointWriteError(
            f'Cannot write {path}: {cause.strerror} (about {size:,} bytes needed, {free:,} free). '
            'Earlier checkpoints are intact: remove the cause, then continue with --resume.'
        ) from error
    with contextlib.suppress(OSError):  # some network disks cannot flush a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def before_save_checkpoint(
    self: CheckpointHook, runner: Runner, checkpoint: dict[str, Any]
) -> None:
    """Refuse a checkpoint with NaN or infinity, but for buffers with infinity by design.

    Raises:
        FloatingPointError: The message names the tensors and the last checkpoint.
    """
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    buffers = {name for name, _ in model.named_buffers()}
    # EMAHook saves two models; the second has the names of its wrapper.
    wrapped = {f'module.{name}' for name in buffers}
    bad = list_non_finite(checkpoint.get('state_dict'), buffers)
    bad += list_non_finite(checkpoint.get('ema_state_dict'), wrapped)
    bad += [f'optimizer.{name}' for name in list_non_finite(checkpoint.get('optimizer'))]
    if bad:
        step = checkpoint['meta']['iter']
        raise FloatingPointError(
            f'No checkpoint is saved after iteration {step}: NaN or infinity in {len(bad)} '
            f'tensors ({", ".join(bad[:_SHOWN])}).\nThe last checkpoint without them is '
            f'{read_last_checkpoint(runner.work_dir) or "none"}: resume from it with a lower '
            'learning rate or gradient clipping (optim_wrapper.clip_grad).'
        )


def _save_checkpoint_with_step(
    self: CheckpointHook, runner: Runner, step: int, meta: dict[str, Any]
) -> None:
    """Save a checkpoint and delete what it replaces, in this order."""
    outdated = []
    if self.max_keep_ckpts > 0 and step not in list(self.keep_ckpt_ids)[-1:]:
        if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
            outdated.append(self.filename_tmpl.format(self.keep_ckpt_ids.popleft()))
        self.keep_ckpt_ids.append(step)
        runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
    name = self.filename_tmpl.format(step)
    self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
    runner.message_hub.update_info('last_ckpt', self.last_ckpt)
    runner.save_checkpoint(
        self.out_dir,
        name,
        self.file_client_args,
        save_optimizer=self.save_optimizer,
        save_param_scheduler=self.save_param_scheduler,
        meta=meta,
        by_epoch=self.by_epoch,
        backend_args=self.backend_args,
        **self.args,
    )
    if not is_main_process():
        return
    write_last_checkpoint(runner.work_dir, self.last_ckpt)
    # Files that a kill left unfinished, and those that were saved on a signal before.
    outdated += [path.name for path in Path(self.out_dir).glob('.*.pth.tmp')]
    for path in Path(self.out_dir).glob('interrupted_iter_*.pth'):
        found = _INTERRUPTED.fullmatch(path.name)
        outdated += [path.name] if found and int(found[1]) <= meta['iter'] else []
    for old in {*outdated} - {name}:
        _remove(self.file_backend, self.file_backend.join_path(self.out_dir, old))


def _remove(backend: Any, path: str) -> None:
    if backend.isfile(path):
        backend.remove(path)
    elif backend.isdir(path):  # checkpoints of DeepSpeed are folders
        backend.rmtree(path)


def _save_best_checkpoint(
    self: CheckpointHook, runner: Runner, metrics: dict[str, Any] | None
) -> None:
    """Save the best checkpoints, and delete the previous ones when all is written."""
    if not self.save_best:
        return
    # mmengine deletes what these name before it saves; it does not read them otherwise.
    several = len(self.key_indicators) > 1
    paths = self.best_ckpt_path_dict if several else vars(self)
    names = self.key_indicators if several else ['best_ckpt_path']
    before = {name: paths[name] for name in names}
    paths.update(dict.fromkeys(names))
    _stock_save_best(self, runner, metrics)
    for name, old in before.items():
        if paths[name] is None:
            paths[name] = old
            continue
        new, replaced = os.path.realpath(paths[name]), os.path.realpath(old or paths[name])
        # Never files of another run, from which this one was resumed.
        is_own = os.path.dirname(new) == os.path.dirname(replaced)
        if old and new != replaced and is_own and is_main_process():
            _remove(self.file_backend, old)
