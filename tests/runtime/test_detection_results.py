"""Selection of detections and pasting of masks in NumPy, against mmdet's."""

import numpy as np
import pytest
import torch
from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask
from torchvision.ops import batched_nms

from vit_dense.runtime.detection import class_nms, paste_masks, select_dense

SIZE = (50, 70)


def random_boxes(count: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    corners = random.uniform(-5, 60, (count, 2))
    return np.hstack([corners, corners + random.uniform(1, 25, (count, 2))]).astype(np.float32)


def test_nms_by_class() -> None:
    random = np.random.default_rng(1)
    boxes, scores = random_boxes(200), random.random(200).astype(np.float32)
    labels = random.integers(0, 3, 200)
    expected = batched_nms(*map(torch.from_numpy, (boxes, scores, labels)), 0.4).numpy()
    assert 3 < len(expected) < 200
    np.testing.assert_array_equal(class_nms(boxes, scores, labels, 0.4), expected)
    assert len(class_nms(boxes[:0], scores[:0], labels[:0], 0.4)) == 0


@pytest.mark.parametrize('count', [7, 28])
def test_pasted_masks(count: int) -> None:
    boxes = random_boxes(12, seed=2)
    boxes[0] = [-400, -400, -300, -300]  # outside
    masks = np.random.default_rng(3).random((12, count, count)).astype(np.float32)
    pasted, _ = _do_paste_mask(
        torch.from_numpy(masks)[:, None], torch.from_numpy(boxes), *SIZE, skip_empty=False
    )
    found = paste_masks(masks, boxes, SIZE, 0.5)
    differing = (found != (pasted >= 0.5).numpy()).mean()
    assert differing < 1e-4  # rounding at the threshold
    assert 0.01 < found.mean() < 0.9
    assert not found[0].any()


def test_limits_of_the_selection() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [30, 0, 99, 10], [0, 0, 1, 1]], np.float32)
    scores = np.array([[0.9, 0.0], [0.8, 0.3], [0.2, 0.7], [0.6, 0.01]], np.float32)
    settings = {
        'levels': [2, 2],
        'score_thr': 0.05,
        'nms_pre': 2,
        'iou': 0.5,
        'max_per_img': 3,
        'min_bbox_size': 2,
    }
    found, kept, labels = select_dense(scores, boxes, None, SIZE, settings)
    # level 1: 0.9 and 0.8 of class 0, of which one survives; level 2: 0.7, and 0.6 too small
    np.testing.assert_allclose(kept, [0.9, 0.7], rtol=1e-6)
    np.testing.assert_array_equal(labels, [0, 1])
    np.testing.assert_array_equal(found, [[0, 0, 10, 10], [30, 0, 70, 10]])
    factors = np.array([0.1, 1, 1, 1], np.float32)
    np.testing.assert_allclose(
        select_dense(scores, boxes, factors, SIZE, settings)[1], [0.8, 0.7], rtol=1e-6
    )
    settings['score_thr'] = 0.95
    assert [len(one) for one in select_dense(scores, boxes, None, SIZE, settings)] == [0, 0, 0]
