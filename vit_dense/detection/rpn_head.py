"""RPNHeadFP32: proposals keep their place under mixed precision.

mmdet makes the anchors of proposals in the type of the scores. In bfloat16 those of an image of
1344x1024 px are up to 7 px off, and many fall together.
"""

from typing import Any

from mmdet.models import RPNHead
from mmdet.utils import InstanceList
from mmengine.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class RPNHeadFP32(RPNHead):
    """mmdet's `RPNHead` with proposals in float32; the same arguments, the same result there."""

    def predict_by_feat(
        self, cls_scores: list[Tensor], bbox_preds: list[Tensor], *args: Any, **kwargs: Any
    ) -> InstanceList:
        """Scores (B, A, h, w) and deltas (B, 4 A, h, w) per level -> proposals of each image."""
        scores = [one.float() for one in cls_scores]
        deltas = [one.float() for one in bbox_preds]
        return super().predict_by_feat(scores, deltas, *args, **kwargs)
