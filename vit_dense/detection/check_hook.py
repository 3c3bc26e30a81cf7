"""Check that detector, data and metric agree, before the first iteration.

Otherwise errors appear late and deep inside a library, or never: a shape error of a convolution, a
device-side assertion, or a metric over the images of another file.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmcv.ops import MultiScaleDeformableAttention
from mmdet.datasets import BaseDetDataset
from mmdet.evaluation import CocoMetric
from mmdet.models import RPNHead
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from ..data.coco_masks import check_masks
from ..engine.check_hook import CheckHook, check_task
from ..engine.wrappers import iter_datasets, unwrap
from ..weights.match import shorten
from .metric import CheckedCocoMetric
from .metric_options import check_coco_options, check_masks_predicted
from .roi_extractor import SingleRoIExtractorFP32
from .rpn_head import RPNHeadFP32

_ADVICE = (
    'Boxes need CheckedCocoDataset (configs/vit_maskrcnn_custom.py); for masks of classes, start '
    'from configs/vit_upernet_custom.py.'
)


@HOOKS.register_module()
class DetCheckHook(CheckHook):
    """Check channels, number of classes and the metric's file before train, val and test."""

    def before_train(self, runner: Runner) -> None:
        """Check the training data, and warn of positions that the precision would round."""
        if getattr(runner.optim_wrapper, 'cast_dtype', None) == torch.bfloat16:
            for message in rounded_positions(unwrap(runner.model)):
                runner.logger.warning(message)
        super().before_train(runner)

    def check_model(self, model: nn.Module) -> None:
        """Compare the backbone's `out_channels` with what the neck expects."""
        channels = getattr(getattr(model, 'backbone', None), 'out_channels', None)
        wanted = neck_channels(getattr(model, 'neck', None))
        if channels is not None and wanted is not None and list(channels) != wanted:
            raise ValueError(
                f'neck.in_channels={wanted} does not fit the backbone, whose out_channels are '
                f'{list(channels)}. Set neck.in_channels={list(channels)}.'
            )

    def check_data(self, runner: Runner, dataset: Dataset, split: str) -> None:
        """Compare the heads with the data set, and the model with the metric of `split`."""
        check_classes(runner, dataset, split)
        if split == 'training':
            return
        evaluator = runner.val_evaluator if split == 'validation' else runner.test_evaluator
        for metric in evaluator.metrics:
            if isinstance(metric, CocoMetric) and not metric.format_only:
                check_coco_options(metric)
                check_masks_predicted(metric, unwrap(runner.model), split)

    def check_metric(self, metric: BaseMetric, dataset: Any, split: str) -> None:
        """Compare the annotation file of a COCO metric with that of the data set."""
        if isinstance(metric, CheckedCocoMetric):
            metric.measure_on(dataset, split)
        if isinstance(metric, CocoMetric) and metric._coco_api is not None:
            check_metric(metric, dataset, split)


def neck_channels(neck: nn.Module | None) -> list[int] | None:
    """Return the channels that the first neck expects of each map, or None if it does not say."""
    if isinstance(neck, nn.Sequential):
        neck = neck[0] if len(neck) else None
    channels = getattr(neck, 'in_channels', None)
    if channels is None and isinstance(convs := getattr(neck, 'convs', None), nn.ModuleList):
        # mmdet's ChannelMapper keeps its convolutions only.
        channels = [one.in_channels for one in convs.modules() if isinstance(one, nn.Conv2d)]
    return list(channels) if isinstance(channels, Sequence) else None


def iter_heads(model: nn.Module) -> Iterator[tuple[str, int]]:
    """Yield config name and number of classes of each part that predicts classes."""
    for name, module in model.named_modules():
        count = getattr(module, 'num_classes', None)
        parts = name.split('.')
        # timm's classifier is removed, proposals have one class for any data, and HTC's semantic
        # head has classes of its own.
        if parts[0] in ('backbone', 'rpn_head') or 'semantic_head' in parts:
            continue
        if isinstance(count, int) and count > 0 and not isinstance(module, RPNHead):
            yield name, count


def rounded_positions(model: nn.Module) -> Iterator[str]:
    """Yield a warning for each part that would round positions to the 8 bits of bfloat16."""
    modules = list(model.modules())
    if any(isinstance(one, MultiScaleDeformableAttention) for one in modules):
        yield (
            "bfloat16 rounds the sampling locations of mmcv's MultiScaleDeformableAttention to "
            'steps of up to 1/256 of the image. Train this detector in float32, or with '
            '--amp-dtype float16.'
        )
    if isinstance(head := getattr(model, 'rpn_head', None), BaseDenseHead) and not isinstance(
        head, RPNHeadFP32
    ):
        yield (
            f"bfloat16 rounds the anchors of mmdet's {type(head).__name__} to steps of up to 8 "
            "pixels. Set rpn_head.type='RPNHeadFP32', or train with --amp-dtype float16."
        )
    plain = [one for one in modules if isinstance(one, SingleRoIExtractor)]
    if any(not isinstance(one, SingleRoIExtractorFP32) for one in plain):
        yield (
            "bfloat16 rounds the regions of mmdet's SingleRoIExtractor to steps of up to 8 pixels. "
            "Set type='SingleRoIExtractorFP32' in bbox_roi_extractor and mask_roi_extractor."
        )


def check_classes(runner: Runner, dataset: Dataset, split: str) -> None:
    """Raise `ValueError` if heads and a data set differ in the number of classes."""
    for part in iter_datasets(dataset):
        check_task(part, split, wanted='a detector', other='mmseg', advice=_ADVICE)
        names = part.metainfo.get('classes') if isinstance(part, BaseDetDataset) else None
        classes = list(names or ())
        for name, count in iter_heads(unwrap(runner.model)):
            if classes and count != len(classes):
                raise ValueError(
                    f'{name}.num_classes={count}, but the {split} data set has {len(classes)} '
                    f'classes ({shorten(classes)}). Set num_classes={len(classes)} in every '
                    'head (bbox_head, mask_head), or correct metainfo.classes.'
                )


def check_metric(metric: CocoMetric, dataset: Any, split: str) -> None:
    """Raise `ValueError` if the metric's annotation file is not that of the data set."""
    coco = metric._coco_api
    if not coco.anns and not metric.format_only:
        raise ValueError(
            f'The annotation file of the {split} evaluator has no annotations: there is nothing to '
            'measure against. Give it an annotated file, or set format_only=True in the evaluator '
            'to write predictions only.'
        )
    classes = list(dataset.metainfo.get('classes') or ())
    if 'segm' in metric.metrics and (note := check_masks(dataset.ann_file, coco.dataset, classes)):
        print_log(note, logger='current', level=logging.WARNING)
    known = [one['name'] for one in coco.dataset['categories']]
    images = {dataset.get_data_info(index).get('img_id') for index in range(len(dataset))}
    foreign = images - set(coco.get_img_ids())
    if foreign or not set(classes) <= set(known):
        problem = (
            f'{len(foreign)} of {len(images)} images are not in it'
            if foreign
            else f'its categories are {shorten(known)}, the classes {shorten(classes)}'
        )
        raise ValueError(
            f"The {split} evaluator's ann_file is not that of the {split} data set "
            f'({dataset.ann_file}): {problem}. Set {"val" if split == "validation" else split}'
            '_evaluator.ann_file to the same file.'
        )
