"""Check the model, the data and the metric of each task by the check hook of its library."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..engine.check_hook import CheckHook
from ..engine.wrappers import unwrap
from ..weights.tasks import function_settings
from .datasets import MultiTaskDataset, parts_of


class TaskRunner:
    """What a hook of one task sees of a runner."""

    def __init__(self, runner: Runner, task: str) -> None:
        self._runner, self._task = runner, task
        model: Any = unwrap(runner.model)
        self.model = model.tasks[task]

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._runner, name)
        if name == 'train_dataloader':
            return SimpleNamespace(dataset=parts_of(value.dataset)[self._task])
        if name.endswith(('_dataloader', '_evaluator')):
            return value.parts[self._task]
        if name == 'val_loop' and value is not None and self._task not in value.dataloader.parts:
            return None  # the task is not validated
        return value


@HOOKS.register_module()
class MultiTaskCheckHook(CheckHook):
    """Run the check hooks of the tasks' libraries.

    Args:
        hooks: Library of a task's model -> config of its hook, such as
            `dict(mmseg=dict(type='SegCheckHook'), mmdet=dict(type='DetCheckHook'))`.
    """

    def __init__(self, hooks: Mapping[str, dict[str, Any]]) -> None:
        self.configs = hooks

    def check_model(self, model: Any) -> None:
        """Build the hooks; raise `ValueError` if parts of a task's model do not fit each other."""
        self.hooks = {n: HOOKS.build(self.configs[one]) for n, one in model.scopes.items()}
        for name, hook in self.hooks.items():
            with _naming(name):
                hook.check_model(model.tasks[name])

    def before_train(self, runner: Runner) -> None:
        """Check that each batch has data of each task, and these data."""
        check_batches(runner.train_dataloader, [*self.hooks])
        self._run('before_train', runner, self.hooks)

    def before_val(self, runner: Runner) -> None:
        """Check the validation data of each task."""
        self._run('before_val', runner, runner.val_dataloader.parts)

    def before_test(self, runner: Runner) -> None:
        """Check the test data of each task."""
        self._run('before_test', runner, runner.test_dataloader.parts)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Note settings that the config of a single task must have, too."""
        settings = function_settings(unwrap(runner.model).backbone)
        checkpoint['meta']['backbone_settings'] = settings

    def _run(self, stage: str, runner: Runner, tasks: Iterable[str]) -> None:
        for name in tasks:
            with _naming(name):
                getattr(self.hooks[name], stage)(TaskRunner(runner, name))


def check_batches(loader: Any, tasks: list[str]) -> None:
    """Raise `ValueError` if a task has no training data, or not in every batch."""
    found = [*parts_of(loader.dataset)]
    if found != tasks:
        raise ValueError(
            f'The tasks of the model are {", ".join(tasks)}, and the training data have labels of '
            f'{", ".join(found) or "none of them"}: name the same in model.tasks and in datasets '
            'of train_dataloader.dataset (MultiTaskDataset or JointDataset).'
        )
    counts, kind = getattr(loader.sampler, 'per_batch', {}), type(loader.sampler).__name__
    if isinstance(loader.dataset, MultiTaskDataset) and sum(counts.values()) != loader.batch_size:
        raise ValueError(
            f'train_dataloader.batch_size={loader.batch_size}, sampler {kind}{counts or ""}: '
            "MultiTaskDataset needs sampler=dict(type='TaskSampler', per_batch=dict(NAME=...)), "
            'whose numbers add up to batch_size.'
        )


@contextmanager
def _naming(task: str) -> Iterator[None]:
    """Put the task's name before an error of the user's."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f'Task {task}: {error}') from error
