"""The order of checks before training, validation and test; a task implements each check."""

from typing import Any

from mmengine.config import Config
from mmengine.dist import all_gather_object, get_world_size
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .bad_files import evaluate_all_samples
from .class_names import check_class_order
from .schedule_checks import check_training
from .unlabelled import predict_only
from .variable_check import check_variables
from .wrappers import find_encoder, iter_datasets, unwrap


class CheckHook(Hook):
    """Check that model, data and metric agree, before the first iteration."""

    def before_run(self, runner: Runner) -> None:
        """Check variables, schedule, saving, and the channels between the parts of the model."""
        if isinstance(getattr(runner, 'cfg', None), Config):
            check_variables(runner.cfg)
        check_training(runner)
        self.check_model(unwrap(runner.model))

    def before_train(self, runner: Runner) -> None:
        """Check the training data, and what validation will use."""
        check_same_data(runner.train_dataloader.dataset, 'training')
        self.check_data(runner, runner.train_dataloader.dataset, 'training')
        if runner.val_loop is not None:
            check_class_order(runner.train_dataloader.dataset, runner.val_dataloader.dataset)
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
        """Check the test data; without labels, predict only."""
        predict_only(runner)
        self._check_evaluation(runner, runner.test_dataloader, runner.test_evaluator, 'test')

    def _before_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, mode: str = 'train'
    ) -> None:
        """Compare the channels of the images with those that the model takes."""
        check_channels(unwrap(runner.model), data_batch)

    def check_model(self, model: nn.Module) -> None:
        """Raise `ValueError` if parts of the unwrapped model do not fit each other."""

    def check_data(self, runner: Runner, dataset: Dataset, split: str) -> None:
        """Raise `ValueError` if the model and the data set of `split` differ."""

    def check_metric(self, metric: BaseMetric, dataset: Any, split: str) -> None:
        """Raise `ValueError` if `metric` cannot measure on `dataset`, which has no wrappers."""
        raise NotImplementedError

    def _check_evaluation(
        self, runner: Runner, loader: DataLoader, evaluator: Evaluator, split: str
    ) -> None:
        check_same_data(loader.dataset, split)
        evaluate_all_samples(loader.dataset)
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


def check_channels(model: nn.Module, batch: Any) -> None:
    """Raise `ValueError` if images have other channels than the model's backbone takes."""
    image = batch.get('inputs') if isinstance(batch, dict) else None
    while isinstance(image, list | tuple) and image:
        image = image[0]
    taken = getattr(find_encoder(model), 'in_chans', None)
    if not isinstance(image, Tensor) or image.dim() < 3 or taken is None:
        return
    found = image.shape[-3]
    if found != taken:
        raise ValueError(
            f'The pipeline loads images of {found} channels, the backbone takes {taken}. Files of '
            "several bands need LoadImageFromFile(color_type='unchanged') or LoadBands, which "
            f'chooses bands; a model for {found}: vit=dict(model_kwargs=dict(in_chans={found})).'
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
