"""A small COCO data set on disk, to be spoilt in one way per test."""

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import cv2
import numpy as np

CATEGORIES = [{'id': 3, 'name': 'cat'}, {'id': 7, 'name': 'dog'}]
CLASSES = ('cat', 'dog')
SOUND: dict[str, Any] = {
    'images': [
        {'id': 1, 'file_name': 'a.png', 'width': 48, 'height': 40},
        {'id': 2, 'file_name': 'b.png', 'width': 48, 'height': 40},
    ],
    'annotations': [
        {
            'id': 1,
            'image_id': 1,
            'category_id': 3,
            'bbox': [4, 5, 10, 20],
            'area': 200,
            'iscrowd': 0,
            'segmentation': [[4, 5, 14, 5, 14, 25, 4, 25]],
        },
        {
            'id': 2,
            'image_id': 2,
            'category_id': 7,
            'bbox': [20, 8, 28, 32],
            'area': 896,
            'iscrowd': 0,
            'segmentation': [[20, 8, 48, 8, 48, 40, 20, 40]],
        },
    ],
    'categories': CATEGORIES,
}


def sound() -> dict[str, Any]:
    """Returns a copy that may be changed."""
    return deepcopy(SOUND)


def write(root: Path, content: Any, name: str = 'train.json') -> str:
    """Writes an annotation file into `root/annotations`, and returns its path."""
    path = root / 'annotations' / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return str(path)


def write_images(root: Path) -> str:
    """Writes the two pictures into `root/images`, and returns the folder."""
    folder = root / 'images'
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for image in SOUND['images']:
        pixels = rng.integers(0, 256, (image['height'], image['width'], 3), np.uint8)
        cv2.imwrite(str(folder / image['file_name']), pixels)
    return str(folder)


def write_voc(root: Path, content: Any, name: str = 'voc') -> str:
    """Writes the boxes as PASCAL VOC, an XML file per image, and returns the folder."""
    folder = root / name
    folder.mkdir()
    for image, objects in _by_image(content):
        text = f'<size><width>{image["width"]}</width><height>{image["height"]}</height></size>'
        for label, (x, y, width, height), _ in objects:
            corners = {'xmin': x + 1, 'ymin': y + 1, 'xmax': x + width, 'ymax': y + height}
            box = ''.join(f'<{key}>{value}</{key}>' for key, value in corners.items())
            text += f'<object><name>{label}</name><bndbox>{box}</bndbox></object>'
        path = (folder / image['file_name']).with_suffix('.xml')
        path.write_text(f'<annotation>{text}</annotation>')
    return str(folder)


def write_yolo(root: Path, content: Any, name: str = 'yolo', polygons: bool = False) -> str:
    """Writes boxes, or polygons, as YOLO text files and a `data.yaml`; returns the folder."""
    folder, names = root / name, [one['name'] for one in content['categories']]
    folder.mkdir()
    (folder / 'data.yaml').write_text(f'nc: {len(names)}\nnames: {names}\n')
    for image, objects in _by_image(content):
        sides, lines = (image['width'], image['height']), []
        for label, (x, y, width, height), outline in objects:
            values = outline if polygons else [x + width / 2, y + height / 2, width, height]
            shares = [value / sides[index % 2] for index, value in enumerate(values)]
            lines.append(' '.join([str(names.index(label)), *(f'{one:.6f}' for one in shares)]))
        (folder / image['file_name']).with_suffix('.txt').write_text('\n'.join(lines))
    return str(folder)


def _by_image(content: Any) -> Iterator[tuple[dict, list[tuple[str, list, list]]]]:
    names = {one['id']: one['name'] for one in content['categories']}
    for image in content['images']:
        yield (
            image,
            [
                (names[one['category_id']], one['bbox'], one['segmentation'][0])
                for one in content['annotations']
                if one['image_id'] == image['id']
            ],
        )
