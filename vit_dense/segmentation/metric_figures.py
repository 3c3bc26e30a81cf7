"""List the figures that mmseg's metrics return, for the check of `save_best`."""

from typing import Any

from mmengine.evaluator import DumpResults
from mmseg.evaluation import CityscapesMetric, DepthMetric, IoUMetric

from ..engine.save_best import iou_figures, register_figures

register_figures(IoUMetric)(iou_figures)


@register_figures(CityscapesMetric)
def cityscapes_figures(metric: Any) -> list[str]:
    """Return the scores of the official scripts; none with `format_only`."""
    names = ['averageScoreCategories', 'averageScoreInstCategories']
    return [] if metric.format_only else names


@register_figures(DepthMetric)
def depth_figures(metric: Any) -> list[str]:
    """Return those of `depth_metrics`; none with `format_only`."""
    return [] if metric.format_only else list(metric.metrics)


@register_figures(DumpResults)
def no_figures(metric: Any) -> list[str]:
    """Return none: predictions are written, not measured."""
    return []
