"""RPNHeadFP32: mmdet's own in float32, and proposals in place under mixed precision."""

import pytest
import torch
from mmdet.models import RPNHead
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from vit_dense.detection import RPNHeadFP32

CONFIG = ConfigDict(
    nms_pre=200, max_per_img=50, nms={'type': 'nms', 'iou_threshold': 0.7}, min_bbox_size=0
)
# So long that bfloat16 cannot tell its far columns apart.
COLUMNS, STRIDE = 300, 4


def propose(kind: type[RPNHead], dtype: torch.dtype) -> InstanceData:
    """Proposals from exact scores that fall from left to right and no deltas."""
    generator = {'type': 'AnchorGenerator', 'scales': [4.5], 'ratios': [1.0], 'strides': [STRIDE]}
    head = kind(in_channels=8, feat_channels=8, anchor_generator=generator)
    scores = torch.linspace(-3, 3, COLUMNS).reshape(1, 1, 1, COLUMNS).to(dtype)
    meta = {'img_shape': (STRIDE, COLUMNS * STRIDE)}
    deltas = torch.zeros(1, 4, 1, COLUMNS, dtype=dtype)
    with torch.autocast('cpu', dtype=torch.bfloat16, enabled=dtype != torch.float32):
        (found,) = head.predict_by_feat(
            [scores], [deltas], batch_img_metas=[meta], cfg=CONFIG, with_nms=True
        )
    return found


def test_equals_mmdets_in_float32() -> None:
    ours, theirs = propose(RPNHeadFP32, torch.float32), propose(RPNHead, torch.float32)
    torch.testing.assert_close(ours.bboxes, theirs.bboxes, rtol=0, atol=0)
    torch.testing.assert_close(ours.scores, theirs.scores, rtol=0, atol=0)


@pytest.mark.parametrize(('kind', 'in_place'), [(RPNHeadFP32, True), (RPNHead, False)])
def test_proposals_keep_their_place(kind: type[RPNHead], in_place: bool) -> None:
    """Should the second ever fail, mmdet was mended and our class can go."""
    boxes = propose(kind, torch.bfloat16).bboxes
    # Anchors of 18 px around multiples of the stride, cut off at the border.
    left = boxes[:, 0][boxes[:, 2] < COLUMNS * STRIDE].float()
    off = (left + 9).remainder(STRIDE)
    assert (boxes.dtype == torch.float32) == in_place
    assert bool((torch.minimum(off, STRIDE - off) < 1e-3).all()) == in_place
