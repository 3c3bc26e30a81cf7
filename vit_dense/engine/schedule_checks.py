"""Check loop, sampler, schedule and saving against each other, before the first iteration."""

import logging
from difflib import get_close_matches
from inspect import signature
from typing import Any

from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.optim.scheduler.param_scheduler import INF
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner

_INFINITE_SAMPLERS = {'InfiniteSampler', 'MultiSourceSampler'}  # mmengine's, mmdet's
# A schedule that ends before this share of the training is called short.
_SHORT = 0.9


def check_training(runner: Runner) -> None:
    """Check how long the training is, and what counts its epochs or iterations.

    Warns of what may be intended: a schedule that is longer or much shorter than the training, or
    no validation.

    Raises:
        ValueError: There is no step, or none between two validations; an epoch never ends; or a
            schedule or `CheckpointHook` counts epochs in a loop that has none.
    """
    check_saving(runner)
    loop = getattr(runner, '_train_loop', None)
    if not isinstance(loop, BaseLoop):
        return
    given = runner.param_schedulers or []
    lists = given.values() if isinstance(given, dict) else [given]
    schedulers = [one for several in lists for one in several]
    check_length(runner, loop)
    if isinstance(loop, EpochBasedTrainLoop):
        check_epochs_end(loop)
    else:
        check_counters(runner, schedulers)
    message = describe_schedule(loop, schedulers)
    total = loop.max_epochs if isinstance(loop, EpochBasedTrainLoop) else loop.max_iters
    if runner.val_loop is not None and getattr(loop, 'val_begin', 1) > total:
        message = f'train_cfg.val_begin={loop.val_begin}: the training ends before it, unvalidated.'
    if message:
        print_log(message, logger='current', level=logging.WARNING)


def check_length(runner: Runner, loop: BaseLoop) -> None:
    """Raise `ValueError` if the training has no step, or no steps between two validations."""
    length = 'max_epochs' if isinstance(loop, EpochBasedTrainLoop) else 'max_iters'
    names = [length] if runner.val_loop is None else [length, 'val_interval']
    for name in names:
        value = getattr(loop, name, 1)
        if not isinstance(value, int | float) or value < 1 or value % 1:
            raise ValueError(
                f'train_cfg.{name}={value}: give a whole number of at least 1. To train without '
                'validation, set val_cfg, val_dataloader and val_evaluator to None.'
            )


def check_epochs_end(loop: EpochBasedTrainLoop) -> None:
    """Raise `ValueError` if the sampler never ends, so that the first epoch does not either."""
    sampler = getattr(getattr(loop.dataloader, 'batch_sampler', None), 'sampler', None)
    if {kind.__name__ for kind in type(sampler).__mro__} & _INFINITE_SAMPLERS:
        raise ValueError(
            f'EpochBasedTrainLoop with {type(sampler).__name__}: the first epoch would never end. '
            "Set train_dataloader.sampler.type='DefaultSampler', or "
            "train_cfg=dict(_delete_=True, type='IterBasedTrainLoop', max_iters=...)."
        )


def check_counters(runner: Runner, schedulers: list[Any]) -> None:
    """Raise `ValueError` if something counts the epochs of a loop that is one long epoch."""
    # Schedules that follow a figure take their steps after validations.
    found = [
        f'param_scheduler: {type(one).__name__}(by_epoch=True)'
        for one in schedulers
        if one.by_epoch and not getattr(one, 'need_val_args', False)
    ]
    found += [
        f'default_hooks.checkpoint: by_epoch=True, interval={one.interval}'
        for one in getattr(runner, '_hooks', ())
        # mmengine's default, 1, saves at the end.
        if type(one) is CheckpointHook and one.by_epoch and one.interval > 1
    ]
    if found:
        raise ValueError(
            f'{found[0]} takes effect only at the end of a loop over iterations, which has no '
            'epochs. Set by_epoch=False, and begin, end, milestones or interval in iterations.'
        )


def describe_schedule(loop: Any, schedulers: list[Any]) -> str | None:
    """Return a warning if the schedule is longer or much shorter than the training."""

    def total(one: Any) -> int:
        return loop.max_epochs if one.by_epoch else loop.max_iters

    last = max(schedulers, key=lambda one: one.end / total(one), default=None)
    if last is None or last.end == INF or _SHORT * total(last) <= last.end <= total(last):
        return None
    kind = type(last).__name__
    if last.end > total(last):
        problem = 'before the rate reaches its final value'
    elif kind.startswith(('Poly', 'Cosine')):
        problem = 'most likely with a rate near 0 from there on'
    else:
        return None  # such as a warm-up alone
    return (
        f'param_scheduler: {kind} ends at {"epoch" if last.by_epoch else "iteration"} {last.end}, '
        f'the training at {total(last)}, {problem}. Set end={total(last)} if that is not intended.'
    )


def check_saving(runner: Runner) -> None:
    """Raise `ValueError` if `CheckpointHook` has an argument that fails when it first saves."""
    taken = sorted(signature(CheckpointHook).parameters.keys() - {'kwargs'})
    for hook in getattr(runner, '_hooks', ()):
        if type(hook) is not CheckpointHook:
            continue
        for name in hook.args.keys() - {*taken, *signature(runner.save_checkpoint).parameters}:
            close = get_close_matches(name, taken, n=2)
            hint = f' Did you mean {" or ".join(close)}?' if close else ''
            raise ValueError(
                f'default_hooks.checkpoint: CheckpointHook has no argument {name!r}.{hint} It '
                f'takes {", ".join(taken)}.'
            )
