"""Training data of several tasks: data sets of their own, or labels of all for the same images."""

import bisect
import os
from collections.abc import Iterator, Mapping
from itertools import accumulate, islice
from typing import Any

from mmengine.dataset import InfiniteSampler
from mmengine.logging import print_log
from mmengine.registry import DATA_SAMPLERS, DATASETS, DefaultScope
from torch.utils.data import ConcatDataset, Dataset

from ..engine.bad_files import BadFilesMixin
from ..engine.load_image import flat_steps
from ..engine.unlabelled import loads_labels
from .scopes import build_in_scope, scope_of

# Transforms of mmdet 3.3.0 that move images and boxes, and leave label maps where they are.
_LEAVE_MAPS = {
    *('RandomAffine', 'RandomShift', 'Mosaic', 'CachedMosaic', 'MixUp', 'CachedMixUp'),
    *('CopyPaste', 'InstaBoost', 'Albu'),
}


@DATASETS.register_module()
class MultiTaskDataset(ConcatDataset):
    """Data sets of the tasks, one after the other; `TaskSampler` fills batches from them.

    Args:
        datasets: Name of the task -> its data set, whose type names the library, such as
            `dict(seg=dict(type='mmseg.CheckedSegDataset', ...))`; steps of its pipeline need none.
    """

    def __init__(self, datasets: Mapping[str, Any]) -> None:
        self.parts = _build(datasets)
        super().__init__(self.parts.values())

    @property
    def metainfo(self) -> dict[str, Any]:
        """Name -> `metainfo` of the task's data set."""
        return {name: getattr(part, 'metainfo', {}) for name, part in self.parts.items()}

    def __getitem__(self, idx: int) -> Any:
        """Load a sample, which names its task in its `metainfo`."""
        sample = super().__getitem__(idx)
        task = [*self.parts][bisect.bisect_right(self.cumulative_sizes, idx)]
        sample['data_samples'].set_metainfo({'task': task})
        return sample


@DATASETS.register_module()
class JointDataset(BadFilesMixin):
    """Images with the labels of every task, so that a batch passes the encoder once.

    The first step of `pipeline` loads the image. Then the data sets load their labels, the other
    steps follow, and the last step of each data set packs its labels.

    Args:
        datasets: Name of the task -> data set, each of another library. Images that one of them
            lacks are left out. Their pipelines load and pack labels only.
        pipeline: Loads the image, and transforms it and all labels; looked up in mmdet.
        options: Of mmengine's `BaseDataset`, and `bad_files` of the checked data sets.
    """

    metainfo = MultiTaskDataset.metainfo

    def __init__(self, datasets: Mapping[str, Any], *, pipeline: Any, **options: Any) -> None:
        scopes = [scope_of(one, f'datasets.{name}') for name, one in datasets.items()]
        if len({*scopes}) < len(scopes):
            raise ValueError(
                f'JointDataset: {", ".join(datasets)} are of {", ".join(scopes)}; labels of one '
                'library overwrite each other in a sample. Use MultiTaskDataset.'
            )
        self.parts = _build(datasets)
        self._steps = {n: list(part.pipeline.transforms) for n, part in self.parts.items()}
        if not pipeline:
            raise ValueError('JointDataset.pipeline: the first step must load the image.')
        steps = [self._merge, *pipeline[:1], self._load, *pipeline[1:], self._pack]
        # mmdet's transforms move label maps, too; mmseg's leave boxes where they are.
        with DefaultScope.overwrite_default_scope('mmdet' if 'mmdet' in scopes else scopes[0]):
            super().__init__(pipeline=steps, **options)
        for name, own in self._steps.items():
            if not any(map(loads_labels, own)) or not type(own[-1]).__name__.startswith('Pack'):
                raise ValueError(
                    f'JointDataset.datasets.{name}.pipeline must load labels and end by packing '
                    f'them; it has {[type(one).__name__ for one in own]}.'
                )
        _, load_image, _, *common, _ = self.pipeline.transforms
        for step in [one for outer in common for one in flat_steps(outer)]:
            name, library = type(step).__name__, type(step).__module__.partition('.')[0]
            if library == 'mmseg' and 'mmdet' in scopes:
                reason = "does not know boxes: use mmdet's"
            elif library == 'mmdet' and name in _LEAVE_MAPS:
                reason = 'moves no masks of classes: remove it, or use MultiTaskDataset'
            elif name.startswith('Pack'):
                reason = 'ends the pipeline of a task: move it to that of datasets.NAME'
            else:
                continue
            raise ValueError(f"JointDataset.pipeline: {library}'s {name} {reason}.")
        for part in self.parts.values():  # what checks of a task's data look at
            part.pipeline.transforms[-1:-1] = common
            part.pipeline.transforms.insert(0, load_image)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Pair the samples of the data sets by the files of their images."""
        places = {
            name: {os.path.realpath(part.get_data_info(i)['img_path']): i for i in range(len(part))}
            for name, part in self.parts.items()
        }
        first, *others = places.values()
        common = [path for path in first if all(path in one for one in others)]
        found = ', '.join(f'{name} {len(one)}: {next(iter(one))}' for name, one in places.items())
        text = f'JointDataset: {len(common)} images have labels of every task ({found}, ...).'
        if not common:
            raise ValueError(f'{text} Give data sets of the same files, or use MultiTaskDataset.')
        print_log(text, 'current')
        return [
            {'img_path': path, 'places': {name: one[path] for name, one in places.items()}}
            for path in common
        ]

    def _merge(self, sample: dict[str, Any]) -> dict[str, Any]:
        results: dict[str, Any] = {}
        for name, part in self.parts.items():
            info = part.get_data_info(sample['places'][name])
            results |= {k: v for k, v in info.items() if v is not None or k not in results}
        return results

    def _load(self, results: dict[str, Any]) -> dict[str, Any]:
        image = results['img']
        for name, steps in self._steps.items():
            for step in steps[:-1]:
                results = step(results)
                if results['img'] is not image:
                    raise ValueError(
                        f'JointDataset.datasets.{name}.pipeline: {type(step).__name__} changes the '
                        'image, which all tasks share. Move it to JointDataset.pipeline.'
                    )
        return results

    def _pack(self, results: dict[str, Any]) -> dict[str, Any]:
        packed = {name: steps[-1](results) for name, steps in self._steps.items()}
        for name, one in packed.items():
            if check := getattr(self.parts[name], 'check_loaded', None):
                check(one)
        samples = {name: one['data_samples'] for name, one in packed.items()}
        return {'inputs': next(iter(packed.values()))['inputs'], 'data_samples': samples}


@DATA_SAMPLERS.register_module()
class TaskSampler(InfiniteSampler):
    """Draw from the data of each task without end, in an order of its own.

    Every batch of every process has the same numbers of samples, so that each task has a loss in
    each step. With n in a batch and W processes, iteration i takes the samples i n W to
    (i + 1) n W - 1 of a task's order.

    Args:
        dataset: A `MultiTaskDataset`.
        per_batch: Name of the task -> its number of samples in a batch; their sum is `batch_size`.
        options: `shuffle` and `seed` of mmengine's `InfiniteSampler`.
    """

    def __init__(self, dataset: Any, per_batch: Mapping[str, int], **options: Any) -> None:
        if not isinstance(dataset, MultiTaskDataset):
            raise ValueError(
                f'TaskSampler with {type(dataset).__name__}: it is for a MultiTaskDataset; repeat '
                "or wrap the data sets inside of that. JointDataset has type='InfiniteSampler'."
            )
        names = [*dataset.parts]
        counts = [per_batch.get(name) for name in names]
        if {*per_batch} - {*names} or any(not isinstance(n, int) or n < 1 for n in counts):
            raise ValueError(
                f'TaskSampler.per_batch={dict(per_batch)}: give each task of the MultiTaskDataset '
                f'({", ".join(names)}) its number of samples in a batch, at least 1.'
            )
        super().__init__(dataset, **options)
        self.per_batch = {name: per_batch[name] for name in names}

    def __iter__(self) -> Iterator[int]:
        """Yield the samples of this process, one batch after the other."""
        sizes = [len(part) for part in self.dataset.parts.values()]
        orders = [
            iter(InfiniteSampler(range(size), self.shuffle, self.seed + number))
            for number, size in enumerate(sizes)
        ]
        starts, counts = [0, *accumulate(sizes)], self.per_batch.values()
        while True:
            for order, start, count in zip(orders, starts, counts, strict=False):
                yield from (start + index for index in islice(order, count))


def parts_of(dataset: Any) -> dict[str, Any]:
    """Return the data set of each task inside `dataset` and its wrappers; none if it has none."""
    while not hasattr(dataset, 'parts') and hasattr(dataset, 'dataset'):
        dataset = dataset.dataset
    return getattr(dataset, 'parts', {})


def _build(datasets: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: one if isinstance(one, Dataset) else build_in_scope(DATASETS, one, f'datasets.{name}')
        for name, one in sorted(datasets.items())  # as written configs are
    }
