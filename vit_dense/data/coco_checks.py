"""Check a COCO annotation file against the config; each mistake raises one message.

Otherwise these mistakes raise no error: class names that the file does not have (an empty data
set), names in another order than the file's (labels are shifted), boxes without area or outside the
image (they are dropped), fractions or corners instead of pixels and sizes.

Independent of any framework: takes the content of the file, raises `ValueError`.
"""

import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from .files import data_not_found, missing_files, picture_size, spread_evenly

Entry = Mapping[str, Any]

_DEMO_HINT = (
    'The demo needs no download: in a checkout of vit_dense, `make demo-det` writes data/demo '
    '(`python -m examples.streets --out data/demo` writes it alone) and trains on it.'
)
_NAMES_SHOWN = 5
# COCO's boxes have fractions of pixels, and some extend up to this far beyond the border.
_TOLERANCE = 1.0


def read_annotations(
    path: str, *, image_folder: str, data_root: str | None, source: str, annotated: bool = True
) -> dict[str, Any]:
    """Read an annotation file and check its structure.

    Args:
        path: The file.
        image_folder: The expected folder of its images, for the message about missing data.
        data_root: The folder that the config names, if it names one.
        source: Where the data set comes from, a sentence; may be empty.
        annotated: Whether annotations are required; lists of test images have none.

    Raises:
        ValueError: The file is missing, is not a COCO annotation file, or is empty.
    """
    if not os.path.isfile(path):
        raise ValueError(_not_found(path, image_folder, data_root, source))
    try:
        content = json.loads(Path(path).read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(f'The annotation file {path} cannot be read as JSON: {error}.') from error
    keys = ['images', 'categories'] + ['annotations'] * annotated
    if not isinstance(content, dict) or any(not isinstance(content.get(k), list) for k in keys):
        given = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise ValueError(
            f'{path} is no COCO annotation file: it needs the lists {", ".join(keys)}, and has '
            f'{given}. Convert it to the COCO format first.'
        )
    for key in keys:
        if not content[key]:
            raise ValueError(
                f'The annotation file {path} is empty: its list {key!r} has no entries. Give '
                'ann_file a file with annotated images.'
            )
    _check_entries(path, content, bool(content.get('annotations')))
    return content


def _not_found(path: str, image_folder: str, data_root: str | None, source: str) -> str:
    hints = [_DEMO_HINT]
    folder = Path(path).parent
    if near := sorted(one.name for one in folder.glob('*.json')):
        hints.insert(0, f'In {folder} there are: {", ".join(near[:_NAMES_SHOWN])}. Set ann_file.')
    elif any(folder.rglob('*.png')):
        hints.insert(
            0,
            f'There are masks for segmentation in {folder}: to train a segmentor on them, start '
            'from configs/vit_upernet_custom.py.',
        )
    return data_not_found(
        f'the annotation file {path} does not exist',
        f'data_root={data_root!r}' if data_root else 'ann_file',
        [path, os.path.join(image_folder, '*')],
        link=data_root or path,
        source=source,
        hints=hints,
    )


def _check_entries(path: str, content: dict[str, Any], annotated: bool) -> None:
    needed = {'images': ('id', 'file_name', 'width', 'height'), 'categories': ('id', 'name')}
    if annotated:
        needed['annotations'] = ('id', 'image_id', 'category_id', 'bbox', 'area')
    for key, fields in needed.items():
        for entry in content[key]:
            if not isinstance(entry, dict):
                raise ValueError(
                    f'{path}: an entry of {key!r} is no object: {entry!r:.100}. Each needs '
                    f'{", ".join(fields)}.'
                )
            if absent := [field for field in fields if field not in entry]:
                raise ValueError(
                    f'{path}: an entry of {key!r} lacks {", ".join(absent)}: {dict(entry)!s:.200}. '
                    f'Each needs {", ".join(fields)}.'
                )
        twice = [number for number, n in Counter(e['id'] for e in content[key]).items() if n > 1]
        if twice:
            raise ValueError(
                f'{path}: the id {twice[0]} occurs more than once in {key!r}. Give each '
                'entry its own id.'
            )
    if annotated:
        _check_references(path, content)


def _check_references(path: str, content: dict[str, Any]) -> None:
    images = {image['id'] for image in content['images']}
    categories = {category['id'] for category in content['categories']}
    for one in content['annotations']:
        if not _is_box(one['bbox']) or not _is_number(one['area']):
            raise ValueError(
                f'{path}: annotation {one["id"]} has bbox={one["bbox"]!r:.100}, area='
                f'{one["area"]!r:.50}. A box is four numbers, [x, y, width, height] in pixels.'
            )
        if one['category_id'] not in categories:
            raise ValueError(
                f'{path}: annotation {one["id"]} has category_id {one["category_id"]!r}, which the '
                f'file does not list; it lists {_first(sorted(categories, key=str))}. Add the '
                'category, or correct the annotation.'
            )
        if one['image_id'] not in images:
            raise ValueError(
                f'{path}: annotation {one["id"]} belongs to image {one["image_id"]}, which '
                'the file does not list. Add the image, or remove the annotation.'
            )
    if all(one.get('iscrowd') for one in content['annotations']):
        raise ValueError(
            f'{path}: all annotations are marked iscrowd, which training ignores. Set '
            'iscrowd to 0 for single objects.'
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


def _first(values: Sequence[Any]) -> str:
    more = len(values) - _NAMES_SHOWN
    return ', '.join(map(str, values[:_NAMES_SHOWN])) + (f' and {more} more' if more > 0 else '')


def check_categories(
    path: str, content: Entry, classes: Sequence[str], *, allow_others: bool
) -> None:
    """Compare the file's categories with the classes of the config.

    Args:
        path: The file, for the message.
        content: From `read_annotations`.
        classes: The names that the config gives.
        allow_others: Whether annotations of further categories may be ignored.

    Raises:
        ValueError: Names or their order differ; the message has both lists.
    """
    names = [one['name'] for one in content['categories']]
    listed = f'\n  metainfo.classes: {_join(classes)}\n  categories in the file: {_join(names)}\n'
    if absent := [name for name in classes if name not in names]:
        near = get_close_matches(absent[0], names, n=1, cutoff=0.4)
        hint = f' (did you mean {near[0]!r}?)' if near else ''
        raise ValueError(
            f'{path} has no category {", ".join(map(repr, absent))}{hint}.{listed}'
            'Write the names exactly as in the file, in the same order.'
        )
    if doubled := [name for name in classes if names.count(name) > 1]:
        raise ValueError(
            f'{path} has several categories called {doubled[0]!r}.{listed}'
            'Merge them: give their annotations one category_id.'
        )
    used = Counter(one['category_id'] for one in content.get('annotations', ()))
    others = {
        one['name']: used[one['id']]
        for one in content['categories']
        if one['name'] not in classes and used[one['id']]
    }
    if others and not allow_others:
        counts = ', '.join(f'{name!r} ({n} annotations)' for name, n in others.items())
        raise ValueError(
            f'{path} has annotations of categories that the config does not name: {counts}.'
            f"{listed}Add them to the classes, or set other_categories='ignore' in the datasets "
            'to train on the named ones only.'
        )
    in_file_order = [name for name in names if name in classes]
    if list(classes) != in_file_order:
        raise ValueError(
            f'The classes are in another order than in {path}, and mmdet numbers them by the '
            f"file: every label would get another class's name.{listed}"
            f'Set classes=({_join(in_file_order)}). Training and validation files must have one '
            'order: where they differ, reorder the categories of one file.'
        )


def describe_bad_boxes(path: str, content: Entry, classes: Sequence[str]) -> str | None:
    """Return a message with the boxes without area or outside their image; None if all are valid.

    A box is `[x, y, width, height]` in pixels, at least 1x1, and extends at most one pixel beyond
    the border. Annotations marked `ignore` and those of other categories than `classes` are
    skipped.
    """
    images = {one['id']: one for one in content['images']}
    empty, outside = [], []
    used = {one['id'] for one in content['categories'] if one['name'] in classes}
    for one in content['annotations']:
        if one.get('ignore') or one['category_id'] not in used:
            continue
        x, y, width, height = one['bbox']
        image = images[one['image_id']]
        if width < 1 or height < 1 or one['area'] <= 0:
            empty.append(one)
        elif (
            min(x, y) < -_TOLERANCE
            or x + width > image['width'] + _TOLERANCE
            or y + height > image['height'] + _TOLERANCE
        ):
            outside.append(one)
    if not empty and not outside:
        return None
    lines = [f'{path} has boxes that cannot be trained on:']
    for problem, bad in (('without area', empty), ('outside their image', outside)):
        for one in bad[:_NAMES_SHOWN]:
            image = images[one['image_id']]
            lines.append(
                f'  {problem}: annotation {one["id"]}, bbox={list(one["bbox"])}, '
                f'{image["file_name"]} of {image["width"]}x{image["height"]} px'
            )
        if len(bad) > _NAMES_SHOWN:
            lines.append(f'  and {len(bad) - _NAMES_SHOWN} more {problem}')
    return '\n'.join([*lines, _usual_reason(content, empty, outside, images)])


def _usual_reason(
    content: Entry, empty: Sequence[Entry], outside: Sequence[Entry], images: Mapping[Any, Entry]
) -> str:
    if all(max(one['bbox']) <= 1 for one in content['annotations']):
        return 'All of them are at most 1: COCO boxes are in pixels, not shares of the image.'
    if outside and all(_would_be_corners(one, images[one['image_id']]) for one in outside):
        return (
            'Read as corners [x1, y1, x2, y2] they would fit: COCO boxes are [x, y, width, height].'
        )
    return (
        "Correct the file, or set bad_boxes='skip' in the datasets to leave out boxes without area "
        'inside the image.'
    )


def _would_be_corners(one: Entry, image: Entry) -> bool:
    x1, y1, x2, y2 = one['bbox']
    return bool(0 <= x1 < x2 <= image['width'] and 0 <= y1 < y2 <= image['height'])


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
            'masks: polygons of at least three points, or run lengths. For boxes alone start from '
            'configs/vit_atss_custom.py, or use another detector without masks.'
        )


def _has_mask(segmentation: Any) -> bool:
    if isinstance(segmentation, list):
        return bool(segmentation) and all(
            isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0
            for polygon in segmentation
        )
    return isinstance(segmentation, dict) and 'counts' in segmentation


def check_images(path: str, content: Entry, image_folder: str, *, limit: int | None = None) -> None:
    """Check that the images exist and have the size that the file says.

    Args:
        path: The annotation file, for the message.
        content: From `read_annotations`.
        image_folder: The folder that `file_name` is relative to.
        limit: Maximum number of images to open, spread evenly; None opens all.

    Raises:
        ValueError: Images are missing or have another size; the message names the first ones.
    """
    images = content['images']
    paths = [os.path.join(image_folder, one['file_name']) for one in images]
    if missing := missing_files(paths):
        shown = '\n'.join(f'  {paths[index]}' for index in missing[:_NAMES_SHOWN])
        raise ValueError(
            f'{len(missing)} of the {len(images)} images that {path} lists are missing, among them:'
            f'\n{shown}\nPut them there, or set data_prefix=dict(img=...) in the config: file '
            'names start in that folder.'
        )
    for index in spread_evenly(len(images), limit):
        one, size = images[index], picture_size(paths[index])
        if size is not None and size != (one['width'], one['height']):
            raise ValueError(
                f'{paths[index]} has {size[0]}x{size[1]} pixels, {path} says {one["width"]}x'
                f'{one["height"]}: its boxes belong to another version of the image. Correct width '
                'and height, and the boxes.'
            )


def _join(names: Sequence[str]) -> str:
    return ', '.join(map(repr, names))
