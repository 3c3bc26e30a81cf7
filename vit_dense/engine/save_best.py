"""Compare `CheckpointHook.save_best` with the figures that the metrics of validation return.

mmengine looks the name up after the first validation, and a name that is not there ends the
training. A config inherits `save_best`, and often changes the metric, its prefix or its options.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner

# In the order of importance; the metrics return aAcc first.
_IOU_FIGURES = {
    'mIoU': ('mIoU', 'mAcc'),
    'mDice': ('mDice', 'mAcc'),
    'mFscore': ('mFscore', 'mPrecision', 'mRecall'),
}
_Figures = Callable[[Any], Sequence[str]]
# By method, so that a subclass that computes other figures counts as unknown.
_figures: dict[Callable, _Figures] = {}


def register_figures(*metrics: type[BaseMetric]) -> Callable[[_Figures], _Figures]:
    """Register a function that lists the figures of `metrics`, without prefix.

    The function takes a metric and returns the names that its `compute_metrics` will return, the
    most important first.
    """

    def register(function: _Figures) -> _Figures:
        _figures.update({kind.compute_metrics: function for kind in metrics})
        return function

    return register


def iou_figures(metric: Any) -> list[str]:
    """List the figures of an IoU metric of mmseg or mmdet; none with `format_only`."""
    if metric.format_only:
        return []
    asked = [metric.metrics] if isinstance(metric.metrics, str) else metric.metrics
    names = [name for one in asked for name in _IOU_FIGURES.get(one, ())]
    return [*dict.fromkeys(names), 'aAcc']


def known_figures(evaluator: Evaluator, *, skip_unknown: bool = False) -> list[str] | None:
    """Return the names of all figures of `evaluator`, or None if one of its metrics is unknown.

    Args:
        evaluator: With its metrics.
        skip_unknown: Whether to return the figures of the known metrics in any case.
    """
    if tasks := getattr(evaluator, 'parts', None):  # of a multi-task validation
        found = {n: known_figures(one, skip_unknown=skip_unknown) for n, one in tasks.items()}
        if None in found.values():
            return None
        return [f'{task}/{name}' for task, several in found.items() for name in several or ()]
    names: list[str] = []
    for metric in evaluator.metrics:
        function = _figures.get(type(metric).compute_metrics)
        if function is None and skip_unknown:
            continue
        if function is None:
            return None
        prefix = f'{metric.prefix}/' if metric.prefix else ''
        names += [prefix + name for name in function(metric)]
    return names


@HOOKS.register_module()
class SaveBestCheckHook(Hook):
    """Check `save_best` before training, and never let a missing figure end a training.

    Metrics of mmseg and mmdet are known before training. For others, the first figure that can be
    compared takes the place of a name that the metric does not return, with one warning.
    """

    # After hooks that read the metrics, before CheckpointHook ('VERY_LOW').
    priority = 'LOW'

    def __init__(self) -> None:
        self._warnings: set[str] = set()

    def before_train(self, runner: Runner) -> None:
        """Compare `save_best` with the figures of known metrics.

        Raises:
            ValueError: No metric returns the figure; the message lists those that there are.
        """
        names = known_figures(runner.val_evaluator) if runner.val_loop is not None else None
        if not names:
            return
        for hook in _best_hooks(runner):
            for wanted in hook.key_indicators:
                if wanted not in ('auto', *names):
                    raise ValueError(_describe(wanted, names, runner.val_evaluator, hook))

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Replace figures that this validation did not return."""
        if not metrics:
            return
        for hook in _best_hooks(runner):
            missing = [name for name in hook.key_indicators if name not in ('auto', *metrics)]
            first = next(iter(metrics))
            if hook.key_indicators == ['auto'] and hook.rules == [None] and not _rule(hook, first):
                missing = ['auto']
            if missing:
                known = known_figures(runner.val_evaluator, skip_unknown=True) or ()
                self._replace(hook, missing, metrics, known)

    def _replace(
        self,
        hook: CheckpointHook,
        missing: Sequence[str],
        metrics: dict[str, Any],
        known: Sequence[str],
    ) -> None:
        given = ', '.join(metrics)
        if len(hook.key_indicators) > 1 or missing[0] in known:
            # CheckpointHook ignores a figure without a value. Known metrics return none where
            # nothing was predicted, and may do so in the next validation.
            metrics.update(dict.fromkeys(missing))
            message = 'Those checkpoints are not compared this time.'
        elif chosen := next((name for name in metrics if _rule(hook, name)), None):
            hook._init_rule([None], [chosen])
            message = f'The best checkpoint is chosen by {chosen!r} from now on.'
        else:
            hook.save_best = None
            message = 'No best checkpoint is kept: set save_best and rule (greater or less).'
        text = (
            f'default_hooks.checkpoint.save_best names {", ".join(missing)}, and the validation '
            f'returned {given}. {message}'
        )
        if text not in self._warnings:
            print_log(text, logger='current', level=logging.WARNING)
        self._warnings.add(text)


def _best_hooks(runner: Runner) -> list[CheckpointHook]:
    return [one for one in runner.hooks if isinstance(one, CheckpointHook) and one.save_best]


def _rule(hook: CheckpointHook, name: str) -> bool:
    """Return whether `hook` can tell by the name if a figure is better when greater or less."""
    keys = [*hook.greater_keys, *hook.less_keys]
    return any(key.lower() in name.lower() for key in keys)


def _describe(wanted: str, names: Sequence[str], evaluator: Evaluator, hook: CheckpointHook) -> str:
    kinds = ' and '.join(type(metric).__name__ for metric in evaluator.metrics)
    base = wanted.rpartition('/')[2]
    chosen = next((name for name in names if name.rpartition('/')[2] == base), names[0])
    rule = '' if _rule(hook, chosen) else ", rule='greater' (or 'less')"
    return (
        f'default_hooks.checkpoint.save_best={wanted!r}, but {kinds} of the validation returns '
        f'{", ".join(names)}. Set default_hooks=dict(checkpoint=dict(save_best={chosen!r}{rule})), '
        'or save_best=None to keep no best checkpoint.'
    )
