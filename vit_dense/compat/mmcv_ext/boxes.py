"""`nms`, `softnms` and `nms_match` of `mmcv._ext`.

mmcv measures a box as `x2 - x1 + offset`. With offset 1 that equals the plain measure of the box
whose far corner is moved by one, for areas and for intersections alike.

`nms` is torchvision's kernel. The other two select one box at a time, on CPU, where mmcv sends
them too; they run in NumPy, whose calls cost a fraction of PyTorch's at these sizes.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import nms as torchvision_nms

__all__ = ['nms', 'nms_match', 'softnms']

# Values of `method` as mmcv's Python side passes them.
_NAIVE, _LINEAR, _GAUSSIAN = 0, 1, 2


def nms(bboxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Suppress boxes whose IoU with a higher scoring box exceeds the threshold.

    Args:
        bboxes: `(N, 4)` corners `x1, y1, x2, y2` in pixels.
        scores: `(N,)`.
        iou_threshold: In [0, 1].
        offset: 0, or 1 for mmcv's legacy measure of a box.

    Returns:
        Indices of the boxes kept, highest score first.
    """
    # torchvision's kernel takes one floating dtype, and no half precision on CPU.
    dtype = torch.promote_types(bboxes.dtype, torch.float32)
    return torchvision_nms(_far_corner(bboxes.to(dtype), offset), scores.to(dtype), iou_threshold)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Lower the scores of overlapping boxes (Bodla et al., 2017) and drop those below a minimum.

    Args:
        boxes: `(N, 4)` corners `x1, y1, x2, y2` in pixels.
        scores: `(N,)`.
        dets: `(N, 5)`, written in place: the K boxes kept with their lowered scores, in the
            order of their selection.
        iou_threshold: The IoU from which methods 0 and 1 act.
        sigma: Width of the Gaussian, method 2 only.
        min_score: Boxes whose score falls below it are dropped.
        method: 0 removes (naive), 1 multiplies by `1 - iou`, 2 by `exp(-iou^2 / sigma)`.
        offset: 0, or 1 for mmcv's legacy measure of a box.

    Returns:
        `(K,)` indices of the boxes kept, in the order of their selection.

    Raises:
        ValueError: If the method is not one of the three.
    """
    if method not in (_NAIVE, _LINEAR, _GAUSSIAN):
        raise ValueError(f'softnms: got method {method}; use 0 (naive), 1 (linear), 2 (gaussian)')
    corners, current = _corners(boxes, offset), _to_numpy(scores)
    left = np.arange(len(boxes))
    kept: list[int] = []
    kept_scores: list[float] = []
    while len(left):
        best = current.argmax()
        kept.append(int(left[best]))
        kept_scores.append(float(current[best]))
        iou = _iou(corners[:, best], corners)
        current = current * _decay(iou, iou_threshold, sigma, method)
        stays = current >= min_score
        # The box selected is kept whatever its score; only the others meet the minimum.
        stays[best] = False
        left, current = left[stays], current[stays]
        corners = corners.compress(stays, axis=1)
    indices = torch.tensor(kept, dtype=torch.long, device=boxes.device)
    dets[: len(kept), :4] = boxes[indices].to(dets)
    dets[: len(kept), 4] = torch.tensor(kept_scores, dtype=torch.float64).to(dets)
    return indices


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Group boxes by the box that suppresses them.

    Args:
        dets: `(N, 5)` corners `x1, y1, x2, y2` in pixels and scores.
        iou_threshold: The IoU from which a box is suppressed.

    Returns:
        One group for each box kept, best first: its index, then those of the boxes that it
        suppresses, by falling score.
    """
    order = dets[:, 4].argsort(descending=True).cpu().numpy()
    corners = _corners(dets[:, :4], offset=0)[:, order]
    groups: list[list[int]] = []
    while len(order):
        suppressed = _iou(corners[:, 0], corners) >= iou_threshold
        suppressed[0] = True  # the group's own box, also where it has no area
        groups.append(order[suppressed].tolist())
        order, corners = order[~suppressed], corners.compress(~suppressed, axis=1)
    return groups


def _decay(iou: NDArray, iou_threshold: float, sigma: float, method: int) -> NDArray:
    if method == _GAUSSIAN:
        return np.exp(-np.square(iou) / sigma)
    lowered = 1 - iou if method == _LINEAR else np.zeros_like(iou)
    return np.where(iou >= iou_threshold, lowered, np.ones_like(iou))


def _iou(box: NDArray, others: NDArray) -> NDArray:
    """Compute the IoU of a box `(4,)` with boxes `(4, N)`; 0 where neither has an area."""
    near = np.maximum(box[:2, None], others[:2])
    far = np.minimum(box[2:, None], others[2:])
    widths, heights = np.maximum(far - near, 0)
    overlap = widths * heights
    widths, heights = others[2:] - others[:2]
    union = widths * heights + (box[2] - box[0]) * (box[3] - box[1]) - overlap
    return overlap / np.maximum(union, np.finfo(union.dtype).tiny)


def _corners(boxes: Tensor, offset: int) -> NDArray:
    """Transpose boxes to `(4, N)`, a row for each coordinate."""
    corners = _to_numpy(boxes).T.copy()  # the caller's own memory otherwise
    corners[2:] += offset
    return corners


def _far_corner(boxes: Tensor, offset: int) -> Tensor:
    return torch.cat([boxes[:, :2], boxes[:, 2:] + offset], dim=1)


def _to_numpy(tensor: Tensor) -> NDArray:
    # NumPy has no bfloat16, and PyTorch's float16 cannot tell close scores apart.
    dtype = torch.promote_types(tensor.dtype, torch.float32)
    return tensor.detach().to('cpu', dtype).numpy()
