"""From the graph of a detector to boxes and masks of an image, as mmdet computes them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .preprocessing import Size

Floats = NDArray[np.float32]
Found = tuple[Floats, Floats, NDArray[np.int64]]


def select_dense(
    scores: Floats, boxes: Floats, factors: Floats | None, size: Size, settings: dict[str, Any]
) -> Found:
    """Select the detections of a one-stage detector (RetinaNet, ATSS) in one image.

    Args:
        scores: `(N, K)` class probabilities of every anchor.
        boxes: `(N, 4)`, x1, y1, x2, y2 in pixels of the graph's input.
        factors: `(N,)` to multiply scores with (centreness), or None.
        size: (height, width) of the image in the graph's input.
        settings: 'levels' (anchors of each level), 'score_thr', 'nms_pre', 'iou', 'max_per_img',
            'min_bbox_size'.

    Returns:
        Boxes `(M, 4)`, scores `(M,)` and labels `(M,)`, the highest score first.
    """
    anchors: list[NDArray[np.int64]] = []
    labels: list[NDArray[np.int64]] = []
    first = 0
    for count in settings['levels']:
        level = scores[first : first + count]
        rows, columns = np.nonzero(level > settings['score_thr'])
        order = np.argsort(-level[rows, columns], kind='stable')[: settings['nms_pre'] or None]
        anchors.append(rows[order] + first)
        labels.append(columns[order])
        first += count
    rows, columns = np.concatenate(anchors), np.concatenate(labels)
    found = scores[rows, columns]
    if factors is not None:
        found = found * factors[rows]
    chosen = clip_boxes(boxes[rows], size)
    edges = chosen[:, 2:] - chosen[:, :2]
    if settings['min_bbox_size'] >= 0:
        large = (edges > settings['min_bbox_size']).all(axis=1)
        chosen, found, columns = chosen[large], found[large], columns[large]
    kept = class_nms(chosen, found, columns, settings['iou'])[: settings['max_per_img']]
    return chosen[kept], found[kept], columns[kept].astype(np.int64)


def clip_boxes(boxes: Floats, size: Size) -> Floats:
    """Clip boxes `(N, 4)` to an image of (height, width)."""
    height, width = size
    return np.clip(boxes, 0, np.array([width, height, width, height], np.float32))


def class_nms(
    boxes: Floats, scores: Floats, labels: NDArray[np.int64], iou: float
) -> NDArray[np.int64]:
    """Return the boxes, best first, that no better one of their class overlaps by over `iou`."""
    kept = [np.empty(0, np.int64)]
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        kept.append(own[_nms(boxes[own], scores[own], iou)])
    found = np.concatenate(kept)
    return found[np.argsort(-scores[found], kind='stable')]


def _nms(boxes: Floats, scores: Floats, iou: float) -> list[int]:
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    waiting = np.argsort(-scores, kind='stable')
    kept = []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        kept.append(int(best))
        upper = np.maximum(boxes[best, :2], boxes[waiting, :2])
        lower = np.minimum(boxes[best, 2:], boxes[waiting, 2:])
        shared = (lower - upper).clip(min=0).prod(axis=1)
        waiting = waiting[shared <= iou * (areas[best] + areas[waiting] - shared)]
    return kept


def paste_masks(masks: Floats, boxes: Floats, size: Size, threshold: float) -> NDArray[np.bool_]:
    """Paste mask probabilities `(N, h, w)` into boxes of an image: `(N, height, width)`.

    Source: `_do_paste_mask` of mmdet, which samples bilinearly at pixel centres, 0 outside.
    """
    out = np.zeros((len(masks), *size), bool)
    for target, mask, box in zip(out, masks, boxes, strict=True):
        x1, y1, x2, y2 = box
        rows = _positions(size[0], y1, y2, mask.shape[0])
        columns = _positions(size[1], x1, x2, mask.shape[1])
        inside_y, inside_x = rows[2], columns[2]
        if not (inside_y.any() and inside_x.any()):
            continue
        padded = np.pad(mask, 1)
        values = _interpolate(_interpolate(padded, rows, 0), columns, 1)
        target[np.ix_(inside_y, inside_x)] = values >= threshold
    return out


def _positions(length: int, start: float, stop: float, cells: int) -> tuple[Any, Any, Any]:
    """Return the lower neighbour in the padded mask, the fraction, and which pixels are inside."""
    with np.errstate(divide='ignore', invalid='ignore'):
        position = (np.arange(length, dtype=np.float32) + 0.5 - start) / (stop - start)
    position = position * cells - 0.5  # in cells of the mask
    inside = (position > -1) & (position < cells)
    position = position[inside]
    lower = np.floor(position)
    return lower.astype(np.int64) + 1, (position - lower).astype(np.float32), inside


def _interpolate(values: Floats, where: tuple[Any, Any, Any], axis: int) -> Floats:
    lower, fraction, _ = where
    shape = (-1, 1) if axis == 0 else (1, -1)
    share = fraction.reshape(shape)
    return values.take(lower, axis) * (1 - share) + values.take(lower + 1, axis) * share
