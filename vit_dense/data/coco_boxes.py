"""Check the boxes of a COCO annotation file: units, corners, areas, and annotations given twice.

Otherwise these mistakes raise no error: boxes without area or outside the image are dropped, and a
copy of an object that is found once counts as missed. Annotations of other categories than
`classes` and those marked `ignore` are not looked at.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Entry = Mapping[str, Any]

_NAMES_SHOWN = 5
# COCO's boxes have fractions of pixels, and some extend up to this far beyond the border.
_TOLERANCE = 1.0
# Areas are those of masks, which are smaller than their boxes.
_MAX_AREA_RATIO = 1.5
# Shares of annotations that repeat an earlier one; COCO itself has single ones.
_FEW_REPEATED, _MANY_REPEATED = 0.01, 0.1


def used_annotations(content: Entry, classes: Sequence[str]) -> list[Entry]:
    """Return the annotations of `classes`, without those marked `ignore`."""
    used = {one['id'] for one in content['categories'] if one['name'] in classes}
    known = content.get('annotations', ())
    return [one for one in known if one['category_id'] in used and not one.get('ignore')]


def find_repeated(annotations: Sequence[Entry]) -> list[tuple[Entry, Entry]]:
    """Return annotations that repeat image, category and box of an earlier one, and that one."""
    seen: dict[tuple, Entry] = {}
    pairs = [
        (one, seen.setdefault((one['image_id'], one['category_id'], *one['bbox']), one))
        for one in annotations
    ]
    return [(one, first) for one, first in pairs if one is not first]


def find_bad_boxes(content: Entry, classes: Sequence[str]) -> dict[str, list[tuple[Entry, Entry]]]:
    """Return the annotations 'without area' and 'outside their image', with their images.

    A box is `[x, y, width, height]` in pixels, at least 1x1, and extends at most one pixel beyond
    the border.
    """
    images = {one['id']: one for one in content['images']}
    empty, outside = [], []
    for one in used_annotations(content, classes):
        x, y, width, height = one['bbox']
        image = images[one['image_id']]
        right, bottom = image['width'] + _TOLERANCE, image['height'] + _TOLERANCE
        if width < 1 or height < 1 or one['area'] <= 0:
            empty.append((one, image))
        elif min(x, y) < -_TOLERANCE or x + width > right or y + height > bottom:
            outside.append((one, image))
    return {'without area': empty, 'outside their image': outside}


def check_box_values(path: str, content: Entry, classes: Sequence[str]) -> str | None:
    """Check units of boxes and areas, and that objects of `classes` are annotated once.

    Returns a message if some annotations, up to one in ten, repeat another one.

    Raises:
        ValueError: All boxes or areas are shares of the image, areas belong to other boxes, or more
            annotations repeat another one.
    """
    annotations = used_annotations(content, classes)
    if not annotations:
        return None
    boxes = np.asarray([one['bbox'] for one in annotations], float)
    areas = np.asarray([one['area'] for one in annotations], float)
    ratio = float(np.median(areas / (boxes[:, 2] * boxes[:, 3]).clip(1)))
    problem = ''
    if boxes.max() <= 1 and boxes.any():
        problem = 'no box has a value above 1'
    elif areas.max() <= 1 < np.median(boxes[:, 2:]):
        problem = 'no area is above 1'
    elif ratio > _MAX_AREA_RATIO:
        problem = f'areas are {ratio:.3g} times those of boxes'
    if problem:
        raise ValueError(
            f'{path}: {problem}, such as area={areas[0]:g} with bbox={annotations[0]["bbox"]} '
            f'(annotation {annotations[0]["id"]!r}). COCO has pixels and square pixels of the '
            'image, not shares: correct them. A missing area is computed.'
        )
    repeated = find_repeated(annotations)
    if len(repeated) <= _FEW_REPEATED * len(annotations):
        return None
    message = (
        f'{path}: {len(repeated)} of {len(annotations)} annotations repeat an earlier one of the '
        f'same image, category and box, such as {repeated[0][0]["id"]!r} and '
        f'{repeated[0][1]["id"]!r}. The copy of an object that is found once counts as missed: '
        'remove copies.'
    )
    if len(repeated) > _MANY_REPEATED * len(annotations):
        raise ValueError(message)
    return message


def describe_bad_boxes(path: str, content: Entry, classes: Sequence[str]) -> str | None:
    """Return a message with what `find_bad_boxes` returns; None if all boxes are valid."""
    found = find_bad_boxes(content, classes)
    lines = []
    for problem, bad in found.items():
        for one, image in bad[:_NAMES_SHOWN]:
            lines.append(
                f'  {problem}: annotation {one["id"]}, bbox={list(one["bbox"])}, '
                f'{image["file_name"]} of {image["width"]}x{image["height"]} px'
            )
        if len(bad) > _NAMES_SHOWN:
            lines.append(f'  and {len(bad) - _NAMES_SHOWN} more {problem}')
    if not lines:
        return None
    outside = found['outside their image']
    advice = (
        "Correct the file, or set bad_boxes='skip' in the datasets to leave out boxes without area "
        'inside the image.'
    )
    if outside and all(_would_be_corners(*pair) for pair in outside):
        advice = (
            'Read as corners [x1, y1, x2, y2] they would fit: COCO boxes are [x, y, width, height].'
        )
    return '\n'.join([f'{path} has boxes that cannot be trained on:', *lines, advice])


def _would_be_corners(one: Entry, image: Entry) -> bool:
    x1, y1, x2, y2 = one['bbox']
    return bool(0 <= x1 < x2 <= image['width'] and 0 <= y1 < y2 <= image['height'])
