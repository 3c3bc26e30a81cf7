"""End a training on a signal with a checkpoint of its last iteration."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, barrier, get_world_size, is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner

from ..compat.checkpoint_writing import write_last_checkpoint

_PENDING = 'validation_pending'  # in `meta` of the checkpoint
# Ctrl-C reaches torchrun and its processes, to which torchrun sends it again.
_REPEAT_SECONDS = 1.0
_NEVER_RECEIVED = ('SIGKILL', 'SIGSTOP')
# How often workers look whether their parent is alive.
_PARENT_SECONDS = 1.0


@HOOKS.register_module()
class StopSignalHook(Hook):
    """On SIGTERM or SIGINT, save `interrupted_iter_N.pth` and exit with 128 + the signal's number.

    The current iteration or validation batch is finished first; with gradient accumulation, the
    current update. Resuming takes this file and continues as if there had been no interruption; an
    interrupted validation is repeated. A second signal of the same kind ends the process at once.

    Args:
        warning_signals: Further signals with this effect, such as 'SIGUSR1', which batch systems
            send some time before they end a job.
    """

    priority = 'LOWEST'  # after the hooks that make the iteration complete

    def __init__(self, *, warning_signals: str | Sequence[str] = ()) -> None:
        names = [warning_signals] if isinstance(warning_signals, str) else warning_signals
        for name in names:
            if name not in signal.Signals.__members__ or name in _NEVER_RECEIVED:
                raise ValueError(
                    f'warning_signals of StopSignalHook got {name!r}, which is no signal of this '
                    "system that a process can receive; give names such as 'SIGUSR1'."
                )
        warnings = [signal.Signals[name] for name in names]
        self._signals = [signal.SIGTERM, signal.SIGINT, *warnings]
        self._previous: dict[int, Any] = {}
        self._resumed_pending = False

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Note whether the validation of the checkpoint's iteration was interrupted."""
        self._resumed_pending = runner._resume and checkpoint['meta'].get(_PENDING, False)

    def before_train(self, runner: Runner) -> None:
        """Handle the signals until the training ends, and repeat an interrupted validation."""
        self._received: dict[int, float] = {}
        if threading.current_thread() is threading.main_thread():
            for one in self._signals:
                self._previous[one] = signal.signal(one, self._receive)
        loops = [runner.train_loop] + ([runner.val_loop] if runner.val_loop is not None else [])
        loaders = [loop.dataloader for loop in loops]
        parts = [getattr(one, 'parts', {'': one}) for one in loaders]  # of several tasks
        for loader in (one for several in parts for one in several.values()):
            initialise = getattr(loader, 'worker_init_fn', None)
            # macOS and Windows lack sigtimedwait.
            if hasattr(signal, 'sigtimedwait') and getattr(initialise, 'func', 0) != _init_worker:
                loader.worker_init_fn = partial(_init_worker, initialise, self._signals)
        if self._resumed_pending and runner.val_loop is not None:
            self._resumed_pending = False
            runner.val_loop.run()

    def after_train_loop(self, runner: Runner) -> None:
        """Restore the handlers of before."""
        while self._previous:
            signal.signal(*self._previous.popitem())

    def before_val_epoch(self, runner: Runner) -> None:
        """Count the batches that all processes have."""
        count = torch.tensor(len(runner.val_dataloader))
        all_reduce(count, 'min')
        self._common_batches = int(count)

    def after_train_iter(self, runner: Runner, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        """Stop if any process has received a signal."""
        if number := self._agreed_signal(runner):
            done = runner.iter + 1
            self._stop(runner, number, {'iter': done, 'epoch': runner.epoch}, _is_due(runner, done))

    def after_val_iter(self, runner: Runner, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        """Stop inside a validation during training."""
        if not self._previous or batch_idx >= self._common_batches:
            return
        if number := self._agreed_signal(runner):
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):  # the model has the averaged weights
                    hook.after_val_epoch(runner)
            meta = {'iter': runner.iter, 'epoch': runner.epoch}
            self._stop(runner, number, meta, pending=True)

    def _receive(self, number: int, frame: Any) -> None:
        first = self._received.setdefault(number, time.monotonic())
        if time.monotonic() - first > _REPEAT_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _agreed_signal(self, runner: Runner) -> int:
        """Return the number of a signal that any process has received, or 0."""
        if not getattr(runner.optim_wrapper, 'should_update', lambda: True)():
            return 0  # checkpoints lack the gradients that have been accumulated
        number = max(self._received, default=0)
        if get_world_size() == 1:
            return number
        flag = torch.tensor(number)
        all_reduce(flag, 'max')
        return int(flag)

    def _stop(self, runner: Runner, number: int, meta: dict[str, Any], pending: bool) -> None:
        name = f'interrupted_iter_{meta["iter"]}.pth'
        path = Path(runner.work_dir, name)
        meta[_PENDING] = pending
        runner.save_checkpoint(runner.work_dir, name, meta=meta, by_epoch=False)
        if is_main_process():
            write_last_checkpoint(runner.work_dir, path)
        barrier()  # the first process to end would end all others
        print_log(
            f'{signal.Signals(number).name}: stopped, saved {path}. Continue with --resume.',
            'current',
            logging.WARNING,
        )
        raise SystemExit(128 + number)


def _is_due(runner: Runner, done: int) -> bool:
    """Return whether a loop over iterations validates after `done` of them."""
    loop = runner.train_loop
    if runner.val_loop is None or isinstance(loop, EpochBasedTrainLoop):
        return False  # a resumed epoch ends with its validation
    return done >= loop.val_begin and (done % loop.val_interval == 0 or done == loop.max_iters)


def _init_worker(
    initialise: Callable[[int], None] | None, signals: Sequence[signal.Signals], worker: int
) -> None:
    """Let a worker of a data loader obey these signals only if its parent sends them.

    Terminals and batch systems send them to all processes of a group; a worker that ends makes its
    parent fail.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    arguments = (signals, os.getppid())
    threading.Thread(target=_await_parent, args=arguments, daemon=True).start()
    if initialise is not None:
        initialise(worker)


def _await_parent(signals: Sequence[signal.Signals], parent: int) -> None:
    """End this worker when `parent` sends a signal or has ended.

    torch's own check for an ended parent never ends a worker that waits for it to read its data.
    """
    while os.getppid() == parent:
        received = signal.sigtimedwait(signals, _PARENT_SECONDS)
        if received is not None and received.si_pid == parent:
            break
    os._exit(0)
