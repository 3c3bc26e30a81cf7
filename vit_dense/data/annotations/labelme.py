"""Labelme: one JSON file per image, with polygons and rectangles.

Shapes of one label and one `group_id` are parts of one object. Polygons give masks, rectangles give
boxes alone.
"""

import json
from pathlib import Path
from typing import Any

from .coco import box_around

SUFFIX = '.json'


def read_labels(path: str) -> tuple[tuple[int, int], list[dict[str, Any]]]:
    """Return width and height, 0 where they are not given, and a COCO annotation per object.

    Raises:
        ValueError: The file is no labelme file, or a shape is neither polygon nor rectangle.
    """
    objects: dict[Any, list[dict[str, Any]]] = {}
    try:
        content = json.loads(Path(path).read_text(encoding='utf-8'))
        for index, shape in enumerate(content['shapes']):
            kind, points = shape.get('shape_type') or 'polygon', shape['points']
            if (kind, len(points)) != ('rectangle', 2) and (kind != 'polygon' or len(points) < 3):
                raise ValueError(
                    f'the shape {shape["label"]!r} is a {kind} of {len(points)} points; allowed '
                    'are polygon (at least 3) and rectangle (2). Remove or redraw it'
                )
            group = shape.get('group_id')
            key = (shape['label'], group, index if group is None else None)
            objects.setdefault(key, []).append(shape)
        size = (content.get('imageWidth') or 0, content.get('imageHeight') or 0)
        return size, [_annotation(name, shapes) for (name, *_), shapes in objects.items()]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{path} cannot be read as a labelme file: {error}.') from error


def _annotation(name: str, shapes: list[dict[str, Any]]) -> dict[str, Any]:
    flat = [[float(value) for point in one['points'] for value in point] for one in shapes]
    polygons = [one for one in flat if len(one) > 4]
    annotation = {'name': name, 'bbox': box_around(flat)}
    return {**annotation, 'segmentation': polygons} if polygons else annotation
