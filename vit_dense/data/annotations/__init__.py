"""Read boxes and masks in the format that they have: COCO, PASCAL VOC, YOLO or labelme.

Every format becomes the content of a COCO annotation file; the data sets, the metric and the
checks know nothing else. Independent of any framework.
"""

import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..pairs import choose_names, list_files, read_split_list
from .coco import merge, read_coco, repair
from .folders import FORMATS, read_folder

__all__ = ['FORMATS', 'read_boxes', 'recognise_format']

_HEAD = 1 << 16


def read_boxes(
    ann_file: str | Sequence[str],
    *,
    image_folder: str,
    classes: Sequence[str] | None = None,
    image_list: str | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Read annotations of any format as the content of one COCO file.

    Args:
        ann_file: A COCO file; a folder of VOC XML, YOLO text or labelme JSON files; or a list of
            such files and folders, which are merged.
        image_folder: The folder of the images; COCO files alone do not need it.
        classes: The classes in order. Formats without a list of classes take their order; YOLO
            labels take their names if no `data.yaml` or `classes.txt` gives them.
        image_list: A text file that names the images to use; None or '' for all.

    Returns:
        The content, and notes on what was repaired or left out. Image sizes are in pixels; a
        size of 0 means that the image cannot be opened.

    Raises:
        ValueError: A file is missing or wrong; the message names it.
    """
    paths = [ann_file] if isinstance(ann_file, str) else list(ann_file)
    if not paths:
        raise ValueError('ann_file=[] names no file. Give it at least one.')
    try:
        read = [_read(path, image_folder, classes or ()) for path in paths]
        content = merge([one for one, _ in read], paths) if len(read) > 1 else read[0][0]
        if image_list:
            _restrict(content, image_list, ', '.join(paths))
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f'{", ".join(paths)}: an entry is malformed: {error!r}.') from error
    return content, [note for _, notes in read for note in notes]


def _read(path: str, image_folder: str, classes: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    if not os.path.isdir(path):
        content = read_coco(path)
        return content, repair(content, path)
    kind = recognise_format(path)
    if kind is None:
        raise ValueError(
            f'{path} is a folder without VOC XML, YOLO or labelme files. Set ann_file to such a '
            'folder, or to a COCO annotation file.'
        )
    return read_folder(kind, path, image_folder, classes)


def recognise_format(path: str) -> str | None:
    """Return 'coco' for such a file; 'voc', 'yolo' or 'labelme' for a folder of such endings."""
    if os.path.isfile(path):
        return 'coco' if path.lower().endswith('.json') and _is_coco(path) else None
    endings = Counter(os.path.splitext(one)[1] for one in list_files(path))
    counts = {kind: endings[reader.SUFFIX] for kind, reader in FORMATS.items()}
    best = max(counts, key=lambda kind: counts[kind])
    return best if counts[best] else None


def _is_coco(path: str) -> bool:
    """Look at the beginning of a file, which may have hundreds of megabytes."""
    with open(path, 'rb') as file:
        text = file.read(_HEAD).lstrip()
    keys = (b'"images"', b'"annotations"', b'"categories"', b'"image_id"', b'"file_name"')
    return text.startswith(b'{') and sum(key in text for key in keys) > 1


def _restrict(content: dict[str, Any], image_list: str, source: str) -> None:
    """Keep the images that the list names."""
    stems = {one['file_name']: os.path.splitext(one['file_name'])[0] for one in content['images']}
    found, absent = choose_names(read_split_list(image_list), stems)
    if absent:
        raise ValueError(
            f'{len(absent)} names in {image_list} are no images of {source}, or have no labels, '
            f'among them {", ".join(absent[:5])}. Correct image_list.'
        )
    chosen = {name for name, _ in found}
    content['images'] = [one for one in content['images'] if one['file_name'] in chosen]
    ids = {one['id'] for one in content['images']}
    content['annotations'] = [
        one for one in content.get('annotations', ()) if one['image_id'] in ids
    ]
