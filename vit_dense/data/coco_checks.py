"""Check a COCO annotation file against the config; each mistake raises one message.

Otherwise these mistakes raise no error: class names that the file does not have (an empty data
set), names in another order than the file's (labels are shifted). `coco_boxes`, `coco_masks` and
`coco_images` check boxes, masks and images.

Independent of any framework: takes the content of the file, raises `ValueError`.
"""

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from .annotations import read_boxes
from .annotations.coco import require_lists
from .files import data_not_found

Entry = Mapping[str, Any]

_DEMO_HINT = (
    'The demo needs no download: in a checkout of vit_dense, `make demo-det` writes data/demo '
    '(`python -m examples.streets --out data/demo` writes it alone) and trains on it.'
)
_NAMES_SHOWN = 5


def read_annotations(
    ann_file: str | Sequence[str],
    *,
    image_folder: str,
    data_root: str | None,
    source: str,
    annotated: bool = True,
    **options: Any,
) -> tuple[dict[str, Any], list[str]]:
    """Read annotations by `read_boxes` and check their structure.

    Args:
        ann_file: A file or folder, or several.
        image_folder: The folder of its images.
        data_root: The folder that the config names, if it names one.
        source: Where the data set comes from, a sentence; may be empty.
        annotated: Whether annotations are required; lists of test images have none.
        options: `classes` and `image_list` of `read_boxes`.

    Returns:
        The content, and the notes of `read_boxes`.

    Raises:
        ValueError: The file is missing, has no known format, or is empty.
    """
    paths = [ann_file] if isinstance(ann_file, str) else list(ann_file)
    for one in paths:
        if not os.path.exists(one):
            raise ValueError(_not_found(one, image_folder, data_root, source))
    content, notes = read_boxes(paths, image_folder=image_folder, **options)
    path = ', '.join(paths)
    require_lists(content, path, annotated=annotated)
    for key in ['images', 'categories'] + ['annotations'] * annotated:
        if not content[key]:
            raise ValueError(
                f'The annotation file {path} is empty: its list {key!r} has no entries. Give '
                'ann_file a file with annotated images.'
            )
    _check_entries(path, content, bool(content.get('annotations')))
    return content, notes


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
    files = Counter(os.path.normpath(str(one['file_name'])) for one in content['images'])
    if twice := [name for name, n in files.items() if n > 1]:
        raise ValueError(
            f'{path} lists {len(twice)} images more than once, such as {twice[0]}: the objects of '
            'one entry would be mistakes in the other. Give each image one entry in images, and '
            'all of its annotations that image_id.'
        )
    for one in content['images']:
        if not all(_is_number(one[side]) and one[side] >= 0 for side in ('width', 'height')):
            raise ValueError(
                f'{path}: image {one["id"]!r} has width={one["width"]!r:.50}, height='
                f'{one["height"]!r:.50}. Give numbers of pixels.'
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
            kinds = _kinds(one['category_id'], categories)
            raise ValueError(
                f'{path}: annotation {one["id"]} has category_id {one["category_id"]!r}, which the '
                f'file does not list; it lists {_first(sorted(categories, key=str))}'
                f'{kinds or ". Add the category, or correct the annotation"}.'
            )
        if one['image_id'] not in images:
            kinds = _kinds(one['image_id'], images)
            raise ValueError(
                f'{path}: annotation {one["id"]} belongs to image {one["image_id"]!r}, which '
                f'the file does not list{kinds or ". Add the image, or remove the annotation"}.'
            )
    if all(one.get('iscrowd') for one in content['annotations']):
        raise ValueError(
            f'{path}: all annotations are marked iscrowd, which training ignores. Set '
            'iscrowd to 0 for single objects.'
        )


def _kinds(number: Any, listed: Set[Any]) -> str:
    """Return a hint where `number` is listed as text, or a text as number."""
    same = next((one for one in listed if str(one) == str(number)), None)
    return '' if same is None else f', but {same!r}: write both as numbers'


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


def _first(values: Sequence[Any]) -> str:
    more = len(values) - _NAMES_SHOWN
    return ', '.join(map(repr, values[:_NAMES_SHOWN])) + (f' and {more} more' if more > 0 else '')


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


def _join(names: Sequence[str]) -> str:
    return ', '.join(map(repr, names))
