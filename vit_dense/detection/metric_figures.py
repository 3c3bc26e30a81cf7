"""List the figures that mmdet's metrics return, for the check of `save_best`."""

from typing import Any

from mmdet.evaluation import (
    CityScapesMetric,
    CocoMetric,
    CocoPanopticMetric,
    CrowdHumanMetric,
    DumpDetResults,
    LVISMetric,
    OpenImagesMetric,
    SemSegMetric,
    VOCMetric,
)
from mmengine.evaluator import DumpResults

from ..engine.save_best import iou_figures, register_figures

COCO_ITEMS = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
COCO_RECALLS = ('AR@100', 'AR@300', 'AR@1000', 'AR_s@1000', 'AR_m@1000', 'AR_l@1000')
_LVIS_ITEMS = ('AP', 'AP50', 'AP75', 'APs', 'APm', 'APl', 'APr', 'APc', 'APf')
_LVIS_RECALLS = ('AR@300', 'ARs@300', 'ARm@300', 'ARl@300')
_CROWD_FIGURES = {'AP': 'mAP', 'MR': 'mMR', 'JI': 'JI'}

register_figures(SemSegMetric)(iou_figures)


@register_figures(CocoMetric)
def coco_figures(metric: Any) -> list[str]:
    """Return those of `metric` and `metric_items`, and those of each class if asked for."""
    return _box_figures(metric, COCO_ITEMS, COCO_RECALLS)


@register_figures(LVISMetric)
def lvis_figures(metric: Any) -> list[str]:
    """Return those of `metric` and `metric_items`, and those of each class if asked for."""
    return _box_figures(metric, _LVIS_ITEMS, _LVIS_RECALLS)


def _box_figures(metric: Any, items: tuple[str, ...], recalls: tuple[str, ...]) -> list[str]:
    if metric.format_only:
        return []
    names: list[str] = []
    for kind in metric.metrics:
        if kind == 'proposal_fast':
            names += [f'AR@{number}' for number in metric.proposal_nums]
        elif kind == 'proposal':
            names += metric.metric_items or recalls
        else:
            names += [f'{kind}_{item}' for item in metric.metric_items or items]
    if metric.classwise:
        classes = (metric.dataset_meta or {}).get('classes', ())
        names += [f'{one}_precision' for one in classes]
    return names


@register_figures(VOCMetric)
def voc_figures(metric: Any) -> list[str]:
    """Return the mean and those of each threshold, or recalls."""
    if metric.metric == 'mAP':
        return ['mAP', *_thresholds(metric)]
    recalls = [f'recall@{n}@{t}' for n in metric.proposal_nums for t in metric.iou_thrs]
    means = [f'AR@{n}' for n in metric.proposal_nums] if len(metric.iou_thrs) > 1 else []
    return [*means, *recalls]


@register_figures(OpenImagesMetric)
def open_images_figures(metric: Any) -> list[str]:
    """Return the mean and those of each threshold."""
    return ['mAP', *_thresholds(metric)]


def _thresholds(metric: Any) -> list[str]:
    return [f'AP{int(threshold * 100):02d}' for threshold in metric.iou_thrs]


@register_figures(CityScapesMetric)
def cityscapes_figures(metric: Any) -> list[str]:
    """Return the scores of the official scripts; none with `format_only`."""
    return [] if metric.format_only else ['mAP', 'AP@50']


@register_figures(CocoPanopticMetric)
def panoptic_figures(metric: Any) -> list[str]:
    """Return quality over all, things and stuff; none with `format_only`."""
    if metric.format_only:
        return []
    return [f'{kind}{part}' for part in ('', '_th', '_st') for kind in ('PQ', 'SQ', 'RQ')]


@register_figures(CrowdHumanMetric)
def crowd_figures(metric: Any) -> list[str]:
    """Return those of `metric`; none with `format_only`."""
    return [] if metric.format_only else [_CROWD_FIGURES[one] for one in metric.metrics]


@register_figures(DumpResults, DumpDetResults)
def no_figures(metric: Any) -> list[str]:
    """Return none: predictions are written, not measured."""
    return []
