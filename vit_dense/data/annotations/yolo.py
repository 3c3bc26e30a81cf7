"""YOLO: one text file per image; a line is `class x_centre y_centre width height`, or a polygon.

All numbers are shares of the image's width and height; lines of more than five columns are
`class x1 y1 x2 y2 ...`. An image with an empty file, or with none, has no objects.
"""

import contextlib
from pathlib import Path
from typing import Any

from .coco import box_around

SUFFIX = '.txt'
# Programs round to six digits, and polygons reach beyond the border.
_TOLERANCE = 0.01
_ROUNDING = 1e-6


def read_labels(path: str) -> tuple[tuple[int, int], list[dict[str, Any]]]:
    """Return a size of 0, and per object a COCO annotation of the image scaled to 1x1 pixels.

    Its name is the index of the class.

    Raises:
        ValueError: A line is wrong; the message has file, line and content.
    """
    annotations = []
    lines = Path(path).read_text(encoding='utf-8-sig', errors='replace').splitlines()
    for number, line in enumerate(lines, 1):
        if columns := line.split():
            try:
                annotations.append(_annotation(columns))
            except ValueError as error:
                raise ValueError(
                    f'{path}, line {number}: {line.strip()[:100]!r}: {error}. A line is the index '
                    'of the class and x_centre y_centre width height, or x1 y1 x2 y2 ... of at '
                    'least three points, as shares (0 to 1) of the image.'
                ) from None
    return (0, 0), annotations


def _annotation(columns: list[str]) -> dict[str, Any]:
    name, values = int(columns[0]), [float(one) for one in columns[1:]]
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise ValueError(f'it has {len(columns)} columns')
    if name < 0 or not all(-_TOLERANCE <= one <= 1 + _TOLERANCE for one in values):
        raise ValueError('a value is out of range')
    if len(values) > 4:
        return {'name': name, 'bbox': box_around([values]), 'segmentation': [values]}
    x, y, width, height = values
    return {'name': name, 'bbox': [x - width / 2, y - height / 2, width, height]}


def enlarge(annotation: dict[str, Any], size: tuple[int, int]) -> None:
    """Scale the box and the polygons to an image of this width and height in pixels.

    Whole pixels that were rounded as shares become whole again, so that 1x1 px stay 1x1 px.
    """
    for values in (annotation['bbox'], *annotation.get('segmentation', ())):
        for index, share in enumerate(values):
            side = size[index % 2]
            whole = round(share * side)
            rounded = abs(share * side - whole) <= _ROUNDING * side
            values[index] = float(whole) if rounded else share * side


def find_names(folder: str) -> list[str] | None:
    """Return the names in a `data.yaml` or `classes.txt` in the folder or up to two above it.

    Raises:
        ValueError: The names of a `data.yaml` are not numbered from 0.
    """
    import yaml  # installed with mmengine

    above = Path(folder).absolute()
    for place in (above, *above.parents[:2]):
        for path in sorted(place.glob('*.yaml')):
            with contextlib.suppress(yaml.YAMLError, UnicodeDecodeError):
                content = yaml.safe_load(path.read_text(encoding='utf-8-sig'))
                # Other programs have YAML files, too.
                if not isinstance(content, dict) or not {'train', 'val', 'nc'} & content.keys():
                    continue
                given = content.get('names') or []
                names = given if isinstance(given, dict) else dict(enumerate(given))
                if sorted(names) != list(range(len(names))):
                    raise ValueError(
                        f'{path}: the names have the numbers {[*names]}. Number them from 0.'
                    )
                return [str(names[index]) for index in range(len(names))]
        if (path := place / 'classes.txt').is_file():
            lines = path.read_text(encoding='utf-8-sig').splitlines()
            return [line.strip() for line in lines if line.strip()]
    return None
