"""RPNHeadFP32: exact proposals under mixed precision.

mmdet creates the anchors of proposals in the type of the scores. In bfloat16 those of an image of
1344x1024 px are up to 7 px off, and many coincide.
"""

from typing import Any

from mmdet.models import RPNHead
from mmdet.utils import InstanceList
from mmengine.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class RPNHeadFP32(RPNHead):
    """mmdet's `RPNHead` with proposals in float32; same arguments, same result in float32."""

    def predict_by_feat(
        self, cls_scores: list[Tensor], bbox_preds: list[Tensor], *args: Any, **kwargs: Any
    ) -> InstanceList:
        """Return the proposals of each image.

        Args:
            cls_scores: `(B, A, h, w)` of each level.
            bbox_preds: `(B, 4 * A, h, w)` of each level.
            args: As for mmdet.
            kwargs: As for mmdet.
        """
        scores = [one.float() for one in cls_scores]
        deltas = [one.float() for one in bbox_preds]
        return super().predict_by_feat(scores, deltas, *args, **kwargs)
