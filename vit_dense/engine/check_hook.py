"""The order of checks before training, validation and test; a task implements each check."""

from difflib import get_close_matches
from inspect import signature
from typing import Any

from mmengine.dist import all_gather_object, get_world_size
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import DataLoader, Dataset

from .wrappers import iter_datasets, unwrap


class CheckHook(Hook):
    """Check that model, data and metric agree, before the first iteration."""

    def before_run(self, runner: Runner) -> None:
        """Check the schedule, how it is saved, and the channels between the parts of the model."""
        check_schedule(runner)
        check_saving(runner)
        self.check_model(unwrap(runner.model))

    def before_train(self, runner: Runner) -> None:
        """Check the training data, and what validation will use."""
        check_same_data(runner.train_dataloader.dataset, 'training')
        self.check_data(runner, runner.train_dataloader.dataset, 'training')
        if runner.val_loop is not None:
            self._check_evaluation(
                runner, runner.val_dataloader, runner.val_evaluator, 'validation'
            )

    def before_val(self, runner: Runner) -> None:
        """Check the validation data, if nothing is trained."""
        if runner.iter == 0:
            self._check_evaluation(
                runner, runner.val_dataloader, runner.val_evaluator, 'validation'
            )

    def before_test(self, runner: Runner) -> None:
        """Check the test data."""
        self._check_evaluation(runner, runner.test_dataloader, runner.test_evaluator, 'test')

    def check_model(self, model: nn.Module) -> None:
        """Raise `ValueError` if parts of the unwrapped model do not fit each other."""
        raise NotImplementedError

    def check_data(self, runner: Runner, dataset: Dataset, split: str) -> None:
        """Raise `ValueError` if the model and the data set of `split` differ."""
        raise NotImplementedError

    def check_metric(self, metric: BaseMetric, dataset: Any, split: str) -> None:
        """Raise `ValueError` if `metric` cannot measure on `dataset`, which has no wrappers."""
        raise NotImplementedError

    def _check_evaluation(
        self, runner: Runner, loader: DataLoader, evaluator: Evaluator, split: str
    ) -> None:
        check_same_data(loader.dataset, split)
        self.check_data(runner, loader.dataset, split)
        for metric in evaluator.metrics:
            for part in iter_datasets(loader.dataset):
                self.check_metric(metric, part, split)


def check_same_data(dataset: Any, split: str) -> None:
    """Raise `ValueError`, on all processes, if their data sets differ in length or classes."""
    if get_world_size() == 1:
        return
    parts = iter_datasets(dataset)
    classes = tuple((getattr(one, 'metainfo', None) or {}).get('classes') for one in parts)
    found = all_gather_object((len(dataset), classes))
    sizes = [size for size, _ in found]
    if any(one != found[0] for one in found):
        what = f'length, {sizes}' if len({*sizes}) > 1 else 'names of the classes'
        raise ValueError(
            f'The processes have different {split} data sets: they differ in the {what}. Give '
            'every machine the same config and the same files.'
        )


def check_schedule(runner: Runner) -> None:
    """Raise `ValueError` if the training has no step, or no steps between two validations."""
    loop = getattr(runner, '_train_loop', None)
    if not isinstance(loop, BaseLoop):
        return
    length = 'max_epochs' if isinstance(loop, EpochBasedTrainLoop) else 'max_iters'
    names = [length] if runner.val_loop is None else [length, 'val_interval']
    for name in names:
        value = getattr(loop, name, 1)
        if not isinstance(value, int | float) or value < 1 or value % 1:
            hint = (
                ' To train without validation, set val_cfg, val_dataloader and val_evaluator to '
                'None.'
                if name == 'val_interval'
                else ''
            )
            raise ValueError(f'train_cfg.{name}={value}: give a whole number of at least 1.{hint}')


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


def check_task(dataset: Any, split: str, *, wanted: str, other: str, advice: str) -> None:
    """Reject a data set that was made for another library's task.

    Args:
        dataset: A data set without wrappers.
        split: Which one it is, for the message.
        wanted: What the config trains, such as 'a detector'.
        other: Import name of the library whose data sets are rejected.
        advice: What to do instead.

    Raises:
        ValueError: The data set's class belongs to `other`.
    """
    if any(kind.__module__.split('.')[0] == other for kind in type(dataset).__mro__):
        raise ValueError(
            f'The config builds {wanted}, but its {split} data set {type(dataset).__name__} is one '
            f'of {other}. {advice}'
        )
