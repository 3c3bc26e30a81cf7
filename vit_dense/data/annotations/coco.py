"""COCO annotation files: read, merge several, and repair what evaluation depends on."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

Content = dict[str, Any]


def read_coco(path: str) -> Content:
    """Read a file with the lists `images` and `categories`, and perhaps `annotations`.

    Raises:
        ValueError: It is no such file.
    """
    try:
        content = json.loads(Path(path).read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise ValueError(f'The annotation file {path} cannot be read as JSON: {error}.') from error
    return require_lists(content, path, annotated='annotations' in content)


def require_lists(content: Any, path: str, *, annotated: bool) -> Content:
    """Return `content`; raise `ValueError` if it lacks lists of a COCO annotation file."""
    keys = ['images', 'categories'] + ['annotations'] * annotated
    if not isinstance(content, dict) or any(not isinstance(content.get(k), list) for k in keys):
        given = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise ValueError(
            f'{path} is no COCO annotation file: it needs the lists images, categories, '
            f'annotations, and has {given}. Convert it to the COCO format first.'
        )
    return content


def merge(contents: Sequence[Content], paths: Sequence[str]) -> Content:
    """Return one content of several, with new ids and one category per name.

    Categories are in the order of the first file; names that only later files have follow.

    Raises:
        ValueError: Two files have the same image.
    """
    whole: Content = {'images': [], 'annotations': [], 'categories': []}
    categories: dict[str, int] = {}
    sources: dict[str, str] = {}
    for content, path in zip(contents, paths, strict=True):
        for one in content['categories']:
            if one['name'] not in categories:
                categories[one['name']] = len(categories) + 1
                whole['categories'].append({**one, 'id': categories[one['name']]})
        category_ids = {one['id']: categories[one['name']] for one in content['categories']}
        image_ids: dict[Any, int] = {}
        for one in content['images']:
            if (other := sources.setdefault(one['file_name'], path)) != path:
                raise ValueError(
                    f'The image {one["file_name"]} is in {other} and in {path}: it would count '
                    'twice. Remove it from one of the files of ann_file.'
                )
            image_ids[one['id']] = len(whole['images']) + 1
            whole['images'].append({**one, 'id': image_ids[one['id']]})
        for one in content.get('annotations', ()):
            ids = {
                'id': len(whole['annotations']) + 1,
                'image_id': image_ids[one['image_id']],
                'category_id': category_ids[one['category_id']],
            }
            whole['annotations'].append({**one, **ids})
    return whole


def repair(content: Content, path: str) -> list[str]:
    """Correct in place what pycocotools scores wrongly or fails on, and return a note for each.

    - Annotation ids that are 0, no integers, missing or used twice: new ids for all.
    - `iscrowd` is missing: 0.
    - `area` is missing: that of the mask, or of the box without one.
    - A category that nothing uses has the name of another one: left out.
    """
    notes = []
    entries = [one for one in content.get('annotations', ()) if isinstance(one, dict)]
    valid = {one.get('id') for one in entries if type(one.get('id')) is int and one['id'] > 0}
    if wrong := len(entries) - len(valid):
        for number, one in enumerate(entries, 1):
            one['id'] = number
        notes.append(
            f'{path}: {wrong} annotation ids are 0, no whole numbers, missing or used twice; all '
            f'annotations get new ones, 1 to {len(entries)}.'
        )
    for key, compute, what in (
        ('iscrowd', lambda one: 0, 'it is set to 0'),
        ('area', _area, 'that of the mask or the box is used'),
    ):
        bare = [one for one in entries if one.get(key) is None and one.get('bbox')]
        for one in bare:
            one[key] = compute(one)
        if bare:
            notes.append(f'{path}: {len(bare)} annotations have no {key}; {what}.')
    categories = [one for one in content['categories'] if isinstance(one, dict)]
    names = Counter(one.get('name') for one in categories)
    used = {one.get('category_id') for one in entries}
    for one in categories:
        if names[one.get('name')] > 1 and one.get('id') not in used:
            names[one.get('name')] -= 1
            content['categories'].remove(one)
            notes.append(
                f'{path}: the category {one.get("id")!r} has the name of another one, '
                f'{one.get("name")!r}, and no annotations; it is left out.'
            )
    return notes


def _area(one: dict[str, Any]) -> float:
    mask = one.get('segmentation')
    if isinstance(mask, list) and mask:
        return sum(cv2.contourArea(np.reshape(part, (-1, 1, 2)).astype('f4')) for part in mask)
    if isinstance(mask, dict) and isinstance(mask.get('counts'), list):
        return float(sum(mask['counts'][1::2]))  # runs of 0 and 1 alternate, and 0 is first
    if isinstance(mask, dict):
        from pycocotools.mask import area

        return float(area(mask))
    return float(one['bbox'][2] * one['bbox'][3])


def box_around(polygons: Sequence[Sequence[float]]) -> list[float]:
    """Return the box `[x, y, width, height]` around polygons `[x1, y1, x2, y2, ...]`."""
    points = np.reshape(np.concatenate(polygons), (-1, 2))
    low, high = points.min(axis=0), points.max(axis=0)
    return [*low.tolist(), *(high - low).tolist()]
