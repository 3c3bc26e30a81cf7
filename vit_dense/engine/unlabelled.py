"""Predict for data without labels: load none, measure nothing."""

from typing import Any

from mmengine.evaluator import BaseMetric, DumpResults
from mmengine.logging import print_log
from mmengine.runner import Runner

from .wrappers import iter_datasets

_LIBRARIES = {'mmseg', 'mmdet'}


def has_labels(dataset: Any) -> bool:
    """Return whether any sample of a data set without wrappers has a mask or an object.

    Data sets of other libraries than mmseg and mmdet count as labelled.
    """
    if not _is_of_libraries(dataset):
        return True
    samples = (dataset.get_data_info(index) for index in range(len(dataset)))
    return any(
        'img_path' not in one
        or any(one[key] for key in one if key == 'instances' or key.endswith('map_path'))
        for one in samples
    )


def needs_labels(metric: BaseMetric) -> bool:
    """Return whether a metric of mmseg or mmdet measures, instead of writing predictions only."""
    writes = isinstance(metric, DumpResults) or getattr(metric, 'format_only', False)
    return _is_of_libraries(metric) and not writes


def predict_only(runner: Runner) -> None:
    """Leave out the metrics and transforms that need labels, if the test data have none at all."""
    parts = list(iter_datasets(runner.test_dataloader.dataset))
    if any(has_labels(part) for part in parts):
        return
    evaluator = runner.test_evaluator
    for metric in evaluator.metrics:
        if getattr(metric, 'output_dir', None):
            metric.format_only = True
    evaluator.metrics = [one for one in evaluator.metrics if not needs_labels(one)]
    for part in parts:
        if 'instances' not in part.get_data_info(0):  # an empty list of objects can be loaded
            _drop_loaders(part.pipeline)
    print_log(
        'The test data have no labels: there is nothing to measure. --out and --show-dir of the '
        'test command write predictions.',
        logger='current',
    )


def loads_labels(step: Any) -> bool:
    """Return whether a transform reads the labels of a sample."""
    name = type(step).__name__
    return name.startswith('Load') and 'Annotation' in name


def _is_of_libraries(value: Any) -> bool:
    return bool({kind.__module__.split('.')[0] for kind in type(value).__mro__} & _LIBRARIES)


def _drop_loaders(pipeline: Any) -> None:
    """Remove the transforms that load labels, also inside `TestTimeAug`."""
    pipeline.transforms = [step for step in pipeline.transforms if not loads_labels(step)]
    for step in pipeline.transforms:
        for branch in getattr(step, 'subroutines', ()):
            _drop_loaders(branch)
