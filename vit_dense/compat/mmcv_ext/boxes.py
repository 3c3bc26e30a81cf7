"""`nms` and `softnms` of `mmcv._ext`.

mmcv measures a box as `x2 - x1 + offset`. With offset 1 that equals the plain measure of the box
whose far corner is moved by one, for areas and for intersections alike.
"""

import torch
from torch import Tensor
from torchvision.ops import box_iou
from torchvision.ops import nms as torchvision_nms

__all__ = ['nms', 'softnms']

# Values of `method` as mmcv's Python side passes them.
_NAIVE, _LINEAR, _GAUSSIAN = 0, 1, 2


def nms(bboxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Suppresses boxes whose IoU with a higher scoring box exceeds the threshold.

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
    """Lowers the scores of overlapping boxes (Bodla et al., 2017) and drops those below a minimum.

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
    measured = _far_corner(boxes.float(), offset)
    current = scores.float().clone()
    left = torch.arange(len(boxes), device=boxes.device)
    kept: list[Tensor] = []
    while len(left):
        best = current[left].argmax()
        index = left[best]
        dets[len(kept), :4] = boxes[index]
        dets[len(kept), 4] = current[index]
        kept.append(index)
        left = torch.cat([left[:best], left[best + 1 :]])
        iou = box_iou(measured[index, None], measured[left])[0]
        current[left] *= _decay(iou, iou_threshold, sigma, method)
        # The box selected is kept whatever its score; only the others meet the minimum.
        left = left[current[left] >= min_score]
    return torch.stack(kept) if kept else left


def _decay(iou: Tensor, iou_threshold: float, sigma: float, method: int) -> Tensor:
    if method == _GAUSSIAN:
        return torch.exp(-iou.square() / sigma)
    lowered = 1 - iou if method == _LINEAR else torch.zeros_like(iou)
    return torch.where(iou >= iou_threshold, lowered, torch.ones_like(iou))


def _far_corner(boxes: Tensor, offset: int) -> Tensor:
    return torch.cat([boxes[:, :2], boxes[:, 2:] + offset], dim=1)
