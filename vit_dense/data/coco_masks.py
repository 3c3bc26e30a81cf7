"""Compare masks in a COCO annotation file with the boxes they belong to.

Masks of another image size, position or order of axes raise no error while loading: they become
empty or cover something else, and the boxes stay right.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .annotations.coco import box_around
from .coco_boxes import used_annotations
from .files import spread_evenly

Entry = Mapping[str, Any]
Corners = NDArray[np.float64]

# A mask belongs to its box if their bounds overlap by this IoU, or differ by so many pixels only.
_MIN_IOU, _ROUNDING = 0.5, 2.0
# COCO itself has single odd masks; where boxes show whole objects, masks of visible parts are
# smaller.
_MAX_ODD, _MAX_SMALLER = 0.01, 0.2
_COMPARED = 5000  # spread evenly


def check_has_masks(path: str, content: Entry) -> None:
    """Check that annotations have masks, for pipelines that load them.

    Raises:
        ValueError: Annotations have no masks; the message has their number.
    """
    without = [one for one in content['annotations'] if not _has_mask(one.get('segmentation'))]
    if without:
        raise ValueError(
            f'{len(without)} of {len(content["annotations"])} annotations in {path} have no '
            f'usable segmentation (the first: {without[0]["id"]}), but the pipeline loads '
            'masks: polygons [x1, y1, x2, y2, x3, y3, ...], or run lengths. For boxes alone start '
            'from configs/vit_atss_custom.py, or use another detector without masks.'
        )


def _has_mask(segmentation: Any) -> bool:
    if isinstance(segmentation, list):
        return bool(segmentation) and all(
            isinstance(polygon, list)
            and len(polygon) >= 6
            and len(polygon) % 2 == 0
            and isinstance(polygon[0], int | float)
            for polygon in segmentation
        )
    return isinstance(segmentation, dict) and 'counts' in segmentation


def check_masks(path: str, content: Entry, classes: Sequence[str]) -> str | None:
    """Check that the annotations of `classes` have masks, and that these lie in their boxes.

    Compares the `size` of all run lengths, and the bounds of up to 5,000 masks. Returns a message
    on a few that do not fit.

    Raises:
        ValueError: Masks are missing, a `size` differs from the image's, or more than 1 % of the
            masks do not fit (20 % if those lie inside their boxes). The message has the first one
            and the likely reason.
    """
    images = {one['id']: one for one in content['images']}
    named = used_annotations(content, classes)
    check_has_masks(path, {**content, 'annotations': named})
    _check_sizes(path, named, images)
    compared = [named[index] for index in spread_evenly(len(named), _COMPARED)]
    bounds = np.asarray([_bounds(one['segmentation']) for one in compared]).reshape(-1, 4)
    boxes = np.asarray([one['bbox'] for one in compared], float).reshape(-1, 4)
    owners = [images[one['image_id']] for one in compared]
    sizes = np.asarray([(one['width'], one['height']) for one in owners]).reshape(-1, 2)
    # Boxes without area or outside their image are left out, or an error of their own.
    valid = (boxes[:, 2:] >= 1).all(1) & (boxes[:, :2] < sizes).all(1)
    boxes[:, 2:] += boxes[:, :2]
    valid &= (boxes[:, 2:] > 0).all(1)
    low, high = np.maximum(bounds, boxes), np.minimum(bounds, boxes)
    # Negated, so that NaN does not fit.
    wrong = valid & ~(_iou(bounds, boxes) >= _MIN_IOU) & ~((low - high).max(1) <= _ROUNDING)
    if not wrong.any():
        return None
    outside = np.hstack([low[:, :2] - bounds[:, :2], bounds[:, 2:] - high[:, 2:]]).max(1)
    first = int(wrong.argmax())
    one, image = compared[first], owners[first]
    found = ', '.join(f'{value:g}' for value in bounds[first])
    message = (
        f'{path}: the masks of {wrong.sum()} of {len(wrong)} annotations do not fit their boxes. '
        f'The first: annotation {one["id"]}, {image["file_name"]} of {image["width"]}x'
        f'{image["height"]} px,\n'
        f'  bbox [x, y, width, height]={one["bbox"]}, segmentation [x1, y1, x2, y2]=[{found}].\n'
        f'{_likely_reason(bounds[wrong], boxes[wrong])}. Correct the masks, or train on boxes '
        'alone (configs/vit_atss_custom.py).'
    )
    if (wrong & ~(outside <= _ROUNDING)).mean() > _MAX_ODD or wrong.mean() > _MAX_SMALLER:
        raise ValueError(message)
    return message


def _check_sizes(path: str, annotations: Sequence[Entry], images: Mapping[Any, Entry]) -> None:
    for one in annotations:
        image, mask = images[one['image_id']], one['segmentation']
        size = [image['height'], image['width']]
        if isinstance(mask, dict) and mask.get('size') != size:
            raise ValueError(
                f'{path}: the mask of annotation {one["id"]} has size={mask.get("size")!r:.50}, '
                f'its image {image["file_name"]} has height {size[0]} and width {size[1]}. '
                'COCO has [height, width] there: write the run lengths again for the image.'
            )


def _bounds(mask: Any) -> Sequence[float]:
    """Return x and y of the upper left corner of a mask, then of the lower right one."""
    if isinstance(mask, list):
        x, y, width, height = box_around(mask)
    else:
        from pycocotools import mask as coco_mask

        if isinstance(mask['counts'], list):
            mask = coco_mask.frPyObjects(mask, *mask['size'])
        x, y, width, height = coco_mask.toBbox(mask)
    return x, y, x + width, y + height


def _iou(first: Corners, second: Corners) -> NDArray[np.float64]:
    low, high = np.maximum(first, second)[:, :2], np.minimum(first, second)[:, 2:]
    shared = (high - low).clip(0).prod(1)
    areas = [(corners[:, 2:] - corners[:, :2]).clip(0).prod(1) for corners in (first, second)]
    return shared / (areas[0] + areas[1] - shared).clip(1e-9)


def _likely_reason(bounds: Corners, boxes: Corners) -> str:
    """Return which change would make most of the masks fit, as the beginning of a sentence."""
    if (bounds <= 1).all():
        return 'All coordinates are at most 1: polygons are in pixels, not shares of the image'
    scale = np.median(bounds[:, 2:] / boxes[:, 2:].clip(1), axis=0).clip(1e-9)
    shift = np.median(bounds[:, :2] - boxes[:, :2], axis=0)
    trials = {
        'They fit with x and y exchanged': bounds[:, [1, 0, 3, 2]],
        f'They fit an image {scale[0]:.3g} times as wide and {scale[1]:.3g} times as high': (
            bounds / np.tile(scale, 2)
        ),
        f'They are shifted by ({shift[0]:.4g}, {shift[1]:.4g}) px': bounds - np.tile(shift, 2),
    }
    fits = [text for text, moved in trials.items() if np.median(_iou(moved, boxes)) > 0.8]
    return fits[0] if fits else 'They may belong to other objects or lie outside of the image'
