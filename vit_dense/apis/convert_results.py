"""From data samples of mmseg and mmdet to results in NumPy."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ..engine.wrappers import unwrap
from ..runtime.results import Detections, Segmentation

_SMALL = 256  # classes whose index fits into 8 bits


def to_segmentation(
    sample: Any,
    module: nn.Module,
    classes: Sequence[str],
    palette: NDArray[np.uint8],
    image: Any,
    *,
    scores: bool,
) -> Segmentation:
    """Return the prediction of an mmseg model in one `SegDataSample`."""
    labels = sample.pred_sem_seg.data
    labels = labels.reshape(labels.shape[-2:]).cpu().numpy()
    kind = np.uint8 if len(classes) <= _SMALL else np.uint16
    found = class_probabilities(sample.seg_logits.data, unwrap(module)) if scores else None
    return Segmentation(
        labels=labels.astype(kind),
        classes=tuple(classes),
        palette=palette,
        scores=None if found is None else found.float().cpu().numpy(),
        image=image,
    )


def class_probabilities(logits: Tensor, model: nn.Module) -> Tensor:
    """Turn what mmseg stores as `seg_logits` of one image, `(C, H, W)`, into probabilities.

    mmseg has applied the sigmoid to a single channel. Mask2Former's values are sums over its
    queries, of class probability times mask, and are divided by their total per pixel.
    """
    if logits.shape[0] == 1:
        return logits
    if hasattr(model.decode_head, 'cls_embed'):  # scores of queries, weighted by their masks
        return logits / logits.sum(dim=0, keepdim=True).clamp_min(1e-12)
    return logits.float().softmax(dim=0)


def to_detections(
    sample: Any, classes: Sequence[str], palette: NDArray[np.uint8], image: Any
) -> Detections:
    """Return the prediction of an mmdet model in one `DetDataSample`, the highest score first."""
    if 'pred_instances' not in sample:
        raise ValueError('this model predicts no objects with boxes, as panoptic models do not')
    found = sample.pred_instances
    scores = found.scores.float().cpu().numpy()
    order = np.argsort(-scores, kind='stable')
    masks = _array(found.masks)[order].astype(bool) if 'masks' in found else None
    height, width = sample.ori_shape[:2]
    return Detections(
        boxes=_array(found.bboxes)[order].astype(np.float32),
        scores=scores[order],
        labels=_array(found.labels)[order].astype(np.int64),
        size=(int(height), int(width)),
        classes=tuple(classes),
        palette=palette,
        masks=masks,
        image=image,
    )


def _array(values: Any) -> NDArray[Any]:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
