"""PASCAL VOC: one XML file per image.

Source: the development kit of VOC2012. Corners count pixels from 1 and lie inside the object, so
COCO's box is `[xmin - 1, ymin - 1, xmax - xmin + 1, ymax - ymin + 1]`. `difficult` objects become
`iscrowd`: neither trained nor counted. Parts of objects are not read.
"""

import xml.etree.ElementTree as ElementTree
from typing import Any

SUFFIX = '.xml'


def read_labels(path: str) -> tuple[tuple[int, int], list[dict[str, Any]]]:
    """Return width and height, 0 where they are not given, and a COCO annotation per object.

    Raises:
        ValueError: The file is no VOC annotation.
    """
    try:
        root = ElementTree.parse(path).getroot()
        width, height = (int(float(root.findtext(f'size/{n}') or 0)) for n in ('width', 'height'))
        return (width, height), [_annotation(one) for one in root.findall('object')]
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(
            f'{path} cannot be read as a VOC annotation: {error}. Each object needs a name and a '
            'bndbox of xmin, ymin, xmax and ymax in pixels.'
        ) from error


def _annotation(one: ElementTree.Element) -> dict[str, Any]:
    given = [one.findtext(f'bndbox/{corner}') for corner in ('xmin', 'ymin', 'xmax', 'ymax')]
    name = (one.findtext('name') or '').strip()
    if not name or None in given:
        raise ValueError('an object has no name or no complete bndbox')
    x1, y1, x2, y2 = (float(value or '') for value in given)
    # Some programs count from 0.
    x, y = max(x1 - 1, 0), max(y1 - 1, 0)
    ignored = (one.findtext('difficult') or '').strip().lower() in ('1', 'true')
    return {'name': name, 'bbox': [x, y, x2 - x, y2 - y], 'iscrowd': int(ignored)}
