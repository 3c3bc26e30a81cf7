"""Corrections of mmseg 1.2.2 where it fails or computes something else than it says.

* `CrossEntropyLoss(class_weight=...)` looks up the weight of void pixels, which have none.
* `CrossEntropyLoss(use_sigmoid=True, class_weight=...)` weighs the columns of an image with them.
* `SegTTAModel` takes the sigmoid of one channel twice, which is above any usual threshold.
* `acc_seg` of one channel is the share of class 0.
* `IoUMetric(output_dir=...)` writes 8 bits for any number of classes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmseg.evaluation import IoUMetric
from mmseg.models.decode_heads import decode_head
from mmseg.models.losses import cross_entropy_loss
from mmseg.models.segmentors.seg_tta import SegTTAModel
from PIL import Image
from torch import Tensor

__all__ = ['install']

_cross_entropy = cross_entropy_loss.cross_entropy
_binary_cross_entropy = cross_entropy_loss.binary_cross_entropy
_accuracy = decode_head.accuracy
_merge = SegTTAModel.merge_preds
_process, _evaluate = IoUMetric.process, IoUMetric.evaluate


def install() -> None:
    """Replace these functions where mmseg calls them."""
    cross_entropy_loss.cross_entropy = cross_entropy
    cross_entropy_loss.binary_cross_entropy = binary_cross_entropy
    decode_head.accuracy = accuracy
    SegTTAModel.merge_preds = merge_preds
    IoUMetric.process, IoUMetric.evaluate = process, evaluate


def cross_entropy(pred: Tensor, label: Tensor, weight: Tensor | None = None, **options: Any) -> Any:
    """Return mmseg's loss of `(N, C, H, W)` logits and `(N, H, W)` class indices.

    With `class_weight`, its mean is divided by the weights of all pixels. Void ones weigh 1, as
    without `class_weight`, or 0 with `avg_non_ignore`, as in `torch.nn.functional.cross_entropy`.
    """
    weights, is_mean = options.get('class_weight'), options.get('reduction', 'mean') == 'mean'
    if weights is not None and is_mean and options.get('avg_factor') is None:
        void = label == options.get('ignore_index', -100)
        of_void = 0.0 if options.get('avg_non_ignore') else 1.0
        options['avg_factor'] = weights[label.masked_fill(void, 0)].masked_fill(void, of_void).sum()
    return _cross_entropy(pred, label, weight, **options)


def binary_cross_entropy(pred: Tensor, *args: Any, **options: Any) -> Any:
    """Return mmseg's loss with `class_weight` as the weight of each channel's positive pixels."""
    if options.get('class_weight') is not None and pred.dim() == 4:
        options['class_weight'] = options['class_weight'].view(-1, 1, 1)
    return _binary_cross_entropy(pred, *args, **options)


def accuracy(pred: Tensor, target: Tensor, *args: Any, **options: Any) -> Any:
    """Return mmseg's accuracy; one channel `(N, 1, H, W)` is class 1 where it is positive."""
    if pred.size(1) == 1:
        pred = torch.cat([torch.zeros_like(pred), pred], 1)
    return _accuracy(pred, target, *args, **options)


def merge_preds(self: SegTTAModel, data_samples_list: list[list[Any]]) -> list[Any]:
    """Merge the views of each image; of one channel, mmseg has taken the sigmoid before."""
    if self.module.out_channels == 1:
        for view in (view for views in data_samples_list for view in views):
            view.seg_logits.data = view.seg_logits.data.logit()
    return _merge(self, data_samples_list)


def process(self: IoUMetric, data_batch: dict, data_samples: Sequence[dict]) -> None:
    """Measure a batch, and write its label maps, in 16 bits where 8 are not enough."""
    folder, self.output_dir = self.output_dir, None
    _process(self, data_batch, data_samples)
    self.output_dir = folder
    for sample in data_samples if folder is not None else ():
        labels = sample['pred_sem_seg']['data'].squeeze().cpu().numpy()
        # As in the files of a data set with this option, whose 0 is "other".
        offset = int(bool(sample.get('reduce_zero_label', False)))
        wide = len(self.dataset_meta['classes']) + offset > 256
        labels = (labels + offset).astype(np.uint16 if wide else np.uint8)
        Image.fromarray(labels).save(Path(folder, f'{Path(sample["img_path"]).stem}.png'))


def evaluate(self: IoUMetric, size: int) -> dict[str, Any]:
    """Return the figures; none, and without a warning, if files are written only."""
    return {} if self.format_only else _evaluate(self, size)
