"""Validation and test of each task on its own data, with its own metric."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.evaluator import Evaluator
from mmengine.registry import LOOPS, DefaultScope
from mmengine.runner import Runner, TestLoop, ValLoop
from torch.utils.data import DataLoader

from ..engine.wrappers import unwrap
from .datasets import MultiTaskDataset


class TaskLoaders:
    """The batches of the data loaders `parts` (name of the task -> loader), one after the other."""

    def __init__(self, parts: Mapping[str, DataLoader]) -> None:
        self.parts = dict(parts)
        self.dataset = MultiTaskDataset({name: one.dataset for name, one in parts.items()})

    def __len__(self) -> int:
        return sum(map(len, self.parts.values()))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for name, loader in self.parts.items():
            for batch in loader:
                for sample in batch['data_samples']:
                    sample.set_metainfo({'task': name})
                yield batch


class TaskEvaluators(Evaluator):
    """The evaluators `parts` of the tasks, for the data of `loaders`; figures as 'NAME/figure'."""

    def __init__(self, parts: Mapping[str, Evaluator], loaders: Mapping[str, Any]) -> None:
        super().__init__([metric for part in parts.values() for metric in part.metrics])
        self.parts, self.loaders = dict(parts), loaders

    @property
    def dataset_meta(self) -> dict[str, Any]:
        """Name -> `metainfo` of the task's data."""
        return {name: part.dataset_meta for name, part in self.parts.items()}

    @dataset_meta.setter
    def dataset_meta(self, meta: Mapping[str, Any]) -> None:
        for name, part in self.parts.items():
            part.dataset_meta = meta[name]

    def process(self, data_samples: Any, data_batch: Any = None) -> None:
        """Pass the predictions of a batch on to the metrics of its task."""
        self.parts[data_samples[0].task].process(data_samples, data_batch)

    def evaluate(self, size: int) -> dict[str, Any]:
        """Return the figures of all tasks."""
        found = {n: part.evaluate(len(self.loaders[n].dataset)) for n, part in self.parts.items()}
        return {f'{name}/{key}': value for name, one in found.items() for key, value in one.items()}


@LOOPS.register_module()
class MultiTaskValLoop(ValLoop):
    """Validate every task that `val_dataloader` and `val_evaluator` name.

        val_cfg = dict(type='MultiTaskValLoop')
        val_dataloader = dict(seg=dict(...), det=dict(...))
        val_evaluator = dict(seg=dict(type='IoUMetric'), det=dict(type='CheckedCocoMetric'))

    Types inside are looked up in the library of the task. Figures are called 'seg/mIoU'.
    """

    def __init__(self, runner: Runner, dataloader: Any, evaluator: Any, fp16: bool = False) -> None:
        super().__init__(runner, *_build(runner, dataloader, evaluator, 'val'), fp16)


@LOOPS.register_module()
class MultiTaskTestLoop(TestLoop):
    """Test every task that `test_dataloader` and `test_evaluator` name; see `MultiTaskValLoop`."""

    def __init__(self, runner: Runner, dataloader: Any, evaluator: Any, fp16: bool = False) -> None:
        super().__init__(runner, *_build(runner, dataloader, evaluator, 'test'), fp16)


def _build(
    runner: Runner, loaders: Any, evaluators: Any, split: str
) -> tuple[TaskLoaders, TaskEvaluators]:
    scopes = getattr(unwrap(runner.model), 'scopes', {})
    named = [sorted(one) if isinstance(one, Mapping) else one for one in (loaders, evaluators)]
    if named[0] != named[1] or not named[0] or {*named[0]} - {*scopes}:
        raise ValueError(
            f'{split}_dataloader names {named[0]}, {split}_evaluator {named[1]}: give both the '
            f'same tasks of the model ({", ".join(scopes) or "it has none"}), as in dict('
            'NAME=dict(...)).'
        )
    differs = runner._randomness_cfg.get('diff_rank_seed', False)
    built, measured = {}, {}
    for name, loader in loaders.items():
        with DefaultScope.overwrite_default_scope(scopes[name]):
            built[name] = runner.build_dataloader(loader, runner.seed, differs)
            measured[name] = runner.build_evaluator(evaluators[name])
    return TaskLoaders(built), TaskEvaluators(measured, built)
