"""mmcv's `nms`, `batched_nms`, `soft_nms` and `nms_match` over our ops, against plain loops."""

from typing import Any

import numpy as np
import pytest
import torch
from devices import DEVICES
from mmcv_cases import DTYPES, iou, random_boxes
from torch import Tensor

import vit_dense  # noqa: F401  (puts the stand-in in place before mmcv is imported)

pytest.importorskip('mmcv')

from mmcv import ops


def _greedy(boxes: Tensor, scores: Tensor, threshold: float, offset: int = 0) -> list[int]:
    kept: list[int] = []
    for i in scores.argsort(descending=True).tolist():
        box = boxes[i].tolist()
        if all(iou(box, boxes[j].tolist(), offset) <= threshold for j in kept):
            kept.append(i)
    return kept


def _distinct_scores(count: int) -> Tensor:
    """In random order, apart from each other in half precision too."""
    return (torch.randperm(count) + 1) / (count + 1)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('offset', [0, 1])
def test_nms_equals_greedy_loop(offset: int, dtype: torch.dtype, device: str) -> None:
    boxes, scores = (x.to(device, dtype) for x in (random_boxes(60), _distinct_scores(60)))
    dets, keep = ops.nms(boxes, scores, 0.4, offset=offset)
    expected = _greedy(boxes, scores, 0.4, offset)
    assert keep.tolist() == expected
    assert 1 < len(expected) < 60
    assert dets.dtype == dtype
    assert torch.equal(dets, torch.cat([boxes, scores[:, None]], 1)[keep])


def test_nms_offset_and_empty() -> None:
    # One pixel apart: the legacy measure (+1) makes these overlap by 10 / 190 of their union.
    boxes = torch.tensor([[0.0, 0, 9, 9], [9, 0, 18, 9]])
    scores = torch.tensor([0.9, 0.8])
    assert len(ops.nms(boxes, scores, 0.04, offset=0)[1]) == 2
    assert len(ops.nms(boxes, scores, 0.04, offset=1)[1]) == 1
    dets, keep = ops.nms(torch.zeros(0, 4), torch.zeros(0), 0.5)
    assert dets.shape == (0, 5)
    assert keep.dtype == torch.int64


def test_nms_score_threshold_and_max_num() -> None:
    boxes, scores = random_boxes(40), _distinct_scores(40)
    expected = [i for i in _greedy(boxes, scores, 0.4) if scores[i] > 0.3]
    keep = ops.nms(boxes, scores, 0.4, score_threshold=0.3)[1]
    assert keep.tolist() == expected
    assert ops.nms(boxes, scores, 0.4, score_threshold=0.3, max_num=3)[1].tolist() == expected[:3]
    assert len(ops.nms(boxes, scores, 0.4, score_threshold=2.0)[1]) == 0
    in_numpy = ops.nms(boxes.numpy(), scores.numpy(), 0.4)[1]
    assert in_numpy.tolist() == _greedy(boxes, scores, 0.4)


# 10000 is mmcv's default; 10 makes it go through the classes one by one.
@pytest.mark.parametrize('split_thr', [10000, 10])
@pytest.mark.parametrize('device', DEVICES)
def test_batched_nms_equals_a_loop_per_class(device: str, split_thr: int) -> None:
    boxes, scores = random_boxes(60).to(device), _distinct_scores(60).to(device)
    classes = torch.arange(60, device=device) % 3
    expected = []
    for label in range(3):
        members = (classes == label).nonzero()[:, 0]
        expected += [int(members[i]) for i in _greedy(boxes[members], scores[members], 0.3)]
    expected.sort(key=lambda i: -float(scores[i]))
    config = {'type': 'nms', 'iou_threshold': 0.3, 'split_thr': split_thr}
    dets, keep = ops.batched_nms(boxes, scores, classes, config)
    assert keep.tolist() == expected
    assert torch.equal(dets, torch.cat([boxes, scores[:, None]], 1)[keep])
    limited = ops.batched_nms(boxes, scores, classes, {**config, 'max_num': 5})[1]
    assert limited.tolist() == expected[:5]


def test_batched_nms_across_classes_and_without_nms() -> None:
    boxes, scores = random_boxes(30), _distinct_scores(30)
    classes = torch.arange(30) % 3
    config = {'type': 'nms', 'iou_threshold': 0.3}
    expected = _greedy(boxes, scores, 0.3)
    assert ops.batched_nms(boxes, scores, classes, config, True)[1].tolist() == expected
    config['class_agnostic'] = True
    assert ops.batched_nms(boxes, scores, classes, config)[1].tolist() == expected
    nothing = ops.batched_nms(boxes[:0], scores[:0], classes[:0], config)
    assert [len(x) for x in nothing] == [0, 0]
    dets, keep = ops.batched_nms(boxes, scores, classes, None)
    assert keep.tolist() == scores.argsort(descending=True).tolist()
    assert torch.equal(dets[:, 4], scores[keep])


@pytest.mark.parametrize('split_thr', [10000, 10])
def test_batched_soft_nms_lowers_scores_within_a_class_only(split_thr: int) -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10]] * 12)
    boxes[1, 3] = 5  # half of the others
    classes = torch.arange(12)
    classes[1] = 0
    scores = torch.linspace(0.9, 0.5, 12)
    config = {'type': 'soft_nms', 'iou_threshold': 0.3, 'min_score': 0.1, 'split_thr': split_thr}
    dets, keep = ops.batched_nms(boxes, scores, classes, config)
    expected = scores.clone()
    expected[1] *= 0.5
    assert sorted(keep.tolist()) == list(range(12))
    torch.testing.assert_close(dets[:, 4], expected[keep])
    assert (dets[:, 4].diff() <= 0).all()


def _soft_nms_loop(
    boxes: Tensor, scores: Tensor, method: str, offset: int
) -> list[tuple[int, float]]:
    left = dict(enumerate(scores.tolist()))
    selected = []
    while left:
        best = max(left, key=lambda i: left[i])
        selected.append((best, left.pop(best)))
        for i in list(left):
            overlap = iou(boxes[best].tolist(), boxes[i].tolist(), offset)
            if method == 'gaussian':
                left[i] *= float(np.exp(-(overlap**2) / 0.5))
            elif overlap >= 0.3:
                left[i] *= 0.0 if method == 'naive' else 1 - overlap
            if left[i] < 0.1:
                del left[i]
    return selected


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
def test_soft_nms_equals_loop(method: str, offset: int, dtype: torch.dtype, device: str) -> None:
    boxes, scores = (x.to(device, dtype) for x in (random_boxes(40), _distinct_scores(40)))
    dets, keep = ops.soft_nms(boxes, scores, 0.3, 0.5, 0.1, method, offset)
    expected = _soft_nms_loop(boxes, scores, method, offset)
    assert keep.tolist() == [i for i, _ in expected]
    assert 1 < len(expected) < 40
    assert dets.dtype == dtype
    lowered = torch.tensor([score for _, score in expected], dtype=dtype, device=device)
    if dtype == torch.float64:  # tighter than torch's own limit, which float32 would keep too
        torch.testing.assert_close(dets[:, 4], lowered, rtol=1e-12, atol=0)
    torch.testing.assert_close(dets[:, 4], lowered)
    assert torch.equal(dets[:, :4], boxes[keep])


def test_soft_nms_leaves_its_inputs_alone() -> None:
    # One box: its transpose is contiguous as it is, so that a copy is easily forgotten.
    boxes, scores = torch.tensor([[0.0, 0, 9, 9]]).requires_grad_(), torch.tensor([0.5])
    ops.soft_nms(boxes, scores, offset=1)
    assert boxes.tolist() == [[0, 0, 9, 9]]
    assert scores.tolist() == [0.5]


def test_soft_nms_of_nothing_and_of_boxes_without_area() -> None:
    assert [len(x) for x in ops.soft_nms(torch.zeros(0, 4), torch.zeros(0))] == [0, 0]
    points = torch.tensor([[3.0, 3, 3, 3], [3, 3, 3, 3]])
    dets = ops.soft_nms(points, torch.tensor([0.9, 0.8]), method='gaussian')[0]
    torch.testing.assert_close(dets[:, 4], torch.tensor([0.9, 0.8]))


def test_soft_nms_refuses_unknown_methods() -> None:
    from vit_dense.compat.mmcv_ext.boxes import softnms

    with pytest.raises(ValueError, match='got method 3; use 0'):
        softnms(random_boxes(2), torch.rand(2), torch.zeros(2, 5), 0.3, 0.5, 0.1, 3, 0)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', DTYPES)
def test_nms_match_equals_loop(dtype: torch.dtype, device: str) -> None:
    dets = torch.cat([random_boxes(40), _distinct_scores(40)[:, None]], 1).to(device, dtype)
    expected: list[list[int]] = []
    for i in dets[:, 4].argsort(descending=True).tolist():
        for group in expected:
            if iou(dets[group[0]].tolist(), dets[i].tolist()) >= 0.3:
                group.append(i)
                break
        else:
            expected.append([i])
    matched: Any = ops.nms_match(dets, 0.3)
    assert [group.tolist() for group in matched] == expected
    assert 1 < len(expected) < 40
    assert ops.nms_match(dets[:0], 0.3) == []


def test_nms_match_of_boxes_without_area_and_of_arrays() -> None:
    dets = np.array([[3, 3, 3, 3, 0.5], [3, 3, 3, 3, 0.9]], dtype=np.float32)
    assert [group.tolist() for group in ops.nms_match(dets, 0.3)] == [[1], [0]]
