"""Write drawn scenes as COCO instance annotations.

Cars, pedestrians and signs become instances with an exact mask of their visible part; layout (sky,
road, houses) and trees do not. Instances with too few pixels to recognise are marked `iscrowd`:
training skips them, and evaluation ignores them.
"""

from collections.abc import Iterable
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .canvas import CAR, CLASSES, PALETTE, PEDESTRIAN, SIGN
from .scene import Scene

_THINGS = (CAR, PEDESTRIAN, SIGN)
THING_CLASSES: tuple[str, ...] = tuple(CLASSES[label] for label in _THINGS)
THING_PALETTE: tuple[tuple[int, int, int], ...] = tuple(PALETTE[label] for label in _THINGS)
# Instances with fewer visible pixels are `iscrowd`.
_MIN_PIXELS = 16


def scenes_to_coco(scenes: Iterable[tuple[str, Scene]]) -> dict[str, Any]:
    """Return the content of a COCO annotation file.

    Args:
        scenes: File name and scene of each picture. Images, annotations and categories (in the
            order of `THING_CLASSES`) are numbered from 1.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    numbers = count(1)
    for image_id, (name, scene) in enumerate(scenes, 1):
        height, width = scene.instances.shape
        images.append({'id': image_id, 'file_name': name, 'width': width, 'height': height})
        for number, label in enumerate(scene.instance_labels, 1):
            mask = scene.instances == number
            if label in _THINGS and mask.any():
                common = {'id': next(numbers), 'image_id': image_id}
                category = {'category_id': _THINGS.index(label) + 1}
                annotations.append({**common, **category, **_describe(mask)})
    categories = [{'id': index, 'name': name} for index, name in enumerate(THING_CLASSES, 1)]
    return {'images': images, 'annotations': annotations, 'categories': categories}


def _describe(mask: NDArray[np.bool_]) -> dict[str, Any]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = int(columns[0]), int(rows[0])
    area = int(mask.sum())
    return {
        'bbox': [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
        'area': area,
        'iscrowd': int(area < _MIN_PIXELS),
        'segmentation': {'size': list(mask.shape), 'counts': run_lengths(mask)},
    }


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """Return COCO's uncompressed run-length code of a `(H, W)` mask.

    Run lengths down the columns, from left to right. The first run is background and may be empty.
    """
    flat = np.concatenate([[False], mask.ravel(order='F')])
    starts = np.flatnonzero(flat[1:] != flat[:-1])
    return [int(run) for run in np.diff(np.concatenate([[0], starts, [mask.size]]))]
