"""Check the options of mmdet's COCO metric, which fail in pycocotools after the first epoch."""

import numpy as np
from mmdet.evaluation import CocoMetric
from torch import nn

from .metric_figures import COCO_ITEMS, COCO_RECALLS

_MARKED = (0.5, 0.75)
_PROPOSALS = [100, 300, 1000]


def check_coco_options(metric: CocoMetric) -> None:
    """Check thresholds, numbers of proposals and names of figures.

    `iou_thrs` becomes an array, since pycocotools finds no threshold in a list. `mAP_50` and
    `mAP_75` are left out if their thresholds are not there.

    Raises:
        ValueError: An option stops evaluation, or makes a figure that its name does not describe.
    """
    given, items, counts = metric.iou_thrs, metric.metric_items, sorted(metric.proposal_nums)
    thresholds = metric.iou_thrs = np.sort(np.atleast_1d(np.asarray(given, float)))
    if not len(thresholds) or thresholds[0] <= 0 or thresholds[-1] > 1:
        raise ValueError(f'iou_thrs={given!r} in the evaluator: give numbers in (0, 1].')
    if metric.metrics == ['proposal_fast']:
        return
    # In the table of classes, mAP_50 and mAP_75 are the first and the sixth threshold.
    if metric.classwise and (len(thresholds) < 6 or not np.allclose(thresholds[[0, 5]], _MARKED)):
        raise ValueError(
            f'iou_thrs={given!r} with classwise=True in the evaluator: the table of classes needs '
            '0.5 to 0.95 in steps of 0.05. Remove iou_thrs or classwise.'
        )
    allowed = (*COCO_ITEMS, *COCO_RECALLS)
    if unknown := [one for one in items or () if one not in allowed]:
        raise ValueError(
            f'metric_items of the evaluator has {unknown[0]!r}; allowed are {", ".join(allowed)}.'
        )
    recalls = 'proposal' in metric.metrics or {*(items or ())} & {*COCO_RECALLS}
    if len(counts) != 3 or 100 not in counts or (recalls and counts != _PROPOSALS):
        raise ValueError(
            f'proposal_nums={tuple(metric.proposal_nums)} in the evaluator: average precision '
            'needs three numbers with 100 among them, and recalls are called AR@100, AR@300 and '
            "AR@1000. Remove proposal_nums, or use metric='proposal_fast'."
        )
    if items is None and 'proposal' not in metric.metrics:
        absent = {
            f'mAP_{100 * one:.0f}' for one in _MARKED if not np.isclose(thresholds, one).any()
        }
        metric.metric_items = [one for one in COCO_ITEMS if one not in absent]


def check_masks_predicted(metric: CocoMetric, model: nn.Module, split: str) -> None:
    """Raise `ValueError` if masks are measured of a model that has no part for masks."""
    if 'segm' in metric.metrics and not any('mask' in name for name, _ in model.named_modules()):
        raise ValueError(
            f'The {split} evaluator has metric={metric.metrics}, but {type(model).__name__} '
            "predicts no masks. Set metric='bbox', or start from configs/vit_maskrcnn_custom.py."
        )
