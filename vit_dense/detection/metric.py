"""COCO's metric, against the annotations that the data set reads."""

import os
from collections.abc import Sequence
from typing import Any

from mmdet.evaluation import CocoMetric
from mmengine.registry import METRICS

from ..data.annotations import read_boxes
from .dataset import CheckedCocoDataset, index_coco, local_files, log_once
from .metric_options import check_coco_options


@METRICS.register_module()
class CheckedCocoMetric(CocoMetric):
    """Box and mask AP as mmdet's `CocoMetric`, against the annotations of the data set.

    Accepts all arguments of `CocoMetric`. What pycocotools would score wrongly is repaired first,
    such as an annotation id of 0.

    Args:
        ann_file: A COCO file, or a list of several, which are merged; by default those of the
            evaluated data set, in any of its formats, which `DetCheckHook` passes on.
        options: Arguments of `CocoMetric`.

    Raises:
        ValueError: There are no annotations to measure against, or an option does not work.
    """

    def __init__(
        self,
        ann_file: str | Sequence[str] | None = None,
        *,
        sort_categories: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if not self.format_only:
            check_coco_options(self)
        self._dataset: CheckedCocoDataset | None = None
        if not ann_file:
            return
        files = [ann_file] if isinstance(ann_file, str) else list(ann_file)
        if wrong := [one for one in files if '://' not in one and not os.path.isfile(one)]:
            problem = 'a folder' if os.path.isdir(wrong[0]) else 'which does not exist'
            raise ValueError(
                f'The evaluator has ann_file={wrong[0]!r}, {problem}. Remove ann_file from the '
                'evaluator: without it, it measures against the annotations of the data set.'
            )
        with local_files(files, self.backend_args) as paths:
            content, notes = read_boxes(paths, image_folder='')
        for note in notes:
            log_once(note)
        if sort_categories:
            content['categories'].sort(key=lambda one: one['id'])
        self._coco_api = index_coco(content)

    def measure_on(self, dataset: Any, split: str) -> None:
        """Take the annotations of the evaluated data set, unless `ann_file` was given."""
        if not isinstance(dataset, CheckedCocoDataset) or dataset is self._dataset:
            return
        if self._dataset is not None:
            raise ValueError(
                f'The {split} data are several data sets, and the evaluator measures on one. Use '
                f'one CheckedCocoDataset with ann_file=[{self._dataset.ann_file!r}, '
                f'{dataset.ann_file!r}]; file names are relative to its data_prefix.'
            )
        if self._coco_api is None:
            self._dataset, self._coco_api = dataset, dataset.load_truth()
