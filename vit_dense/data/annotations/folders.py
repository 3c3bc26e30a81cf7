"""Folders of label files, one per image, as the content of one COCO annotation file."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..files import picture_size
from ..pairs import list_pairs
from . import labelme, voc, yolo
from .cache import cached
from .coco import Content, repair

Files = list[tuple[str, str | None]]

FORMATS = {'voc': voc, 'yolo': yolo, 'labelme': labelme}
_SHOWN = 5
_THREADS = 8


def read_folder(
    kind: str, folder: str, image_folder: str, classes: Sequence[str]
) -> tuple[Content, list[str]]:
    """Read the label files of a folder and its subfolders, or the cached result.

    A label file has the name of its image, but for the ending. `kind` is a key of `FORMATS`; the
    other arguments, results and errors are those of `read_boxes`.
    """
    names, suffix = list(classes), FORMATS[kind].SUFFIX
    if kind == 'yolo' and not (names := yolo.find_names(folder) or names):
        raise ValueError(
            f'{folder} has YOLO labels without names of classes. Set metainfo.classes (--classes '
            'of init), or put a data.yaml with names, or a classes.txt, beside the labels.'
        )
    found = list_pairs(image_folder, folder, img_suffix=None, seg_map_suffix=suffix)
    orphans = [one for one in found.masks_without_image if _has_objects(kind, one)]
    if orphans or not found.pairs:
        shown = ', '.join(orphans[:_SHOWN]) or f'all {suffix} files'
        raise ValueError(
            f'{len(orphans)} label files in {folder} have no image of the same name in '
            f'{image_folder}: {shown}. Correct data_prefix=dict(img=...) or ann_file (a COCO file, '
            'or a folder of VOC XML, YOLO or labelme files), or remove these files.'
        )
    files: Files = list(found.pairs)
    notes = []
    if bare := found.images_without_mask:
        what = 'have no objects' if kind == 'yolo' else 'are left out'
        count = len(bare) + len(files)
        notes = [f'{folder}: {len(bare)} of {count} images have no {suffix} file; they {what}.']
        if kind == 'yolo':
            files = sorted([*files, *((one, None) for one in bare)])
    stats = [os.stat(path) for pair in files for path in pair if path]
    # Programs that copy files can keep the time of the change of the content, but not the other.
    times = [(one.st_size, one.st_mtime_ns, one.st_ctime_ns) for one in stats]
    content = cached(
        [kind, os.path.abspath(image_folder), names, files, times],
        lambda: _convert(kind, image_folder, names, files),
    )
    return content, notes


def _has_objects(kind: str, path: str) -> bool:
    """Whether a file without image is a label file: lists of names are text and JSON, too."""
    try:
        return bool(FORMATS[kind].read_labels(path)[1])
    except ValueError:
        return False


def _convert(kind: str, image_folder: str, names: Sequence[str], files: Files) -> Content:
    with ThreadPoolExecutor(_THREADS) as pool:
        read = list(pool.map(lambda pair: _read(kind, names, *pair), files))
    others = {one['name'] for _, labels in read for one in labels} - {*names}
    ids = {name: index for index, name in enumerate([*names, *sorted(others)], 1)}
    content: Content = {
        'images': [],
        'annotations': [],
        'categories': [{'id': index, 'name': name} for name, index in ids.items()],
    }
    for number, ((path, _), ((width, height), labels)) in enumerate(zip(files, read, strict=True)):
        name = os.path.relpath(path, image_folder).replace(os.sep, '/')
        content['images'].append(
            {'id': number + 1, 'file_name': name, 'width': width, 'height': height}
        )
        content['annotations'] += [
            {'image_id': number + 1, 'category_id': ids[one.pop('name')], **one} for one in labels
        ]
    repair(content, image_folder)
    return content


def _read(
    kind: str, names: Sequence[str], image: str, path: str | None
) -> tuple[tuple[int, int], list[dict[str, Any]]]:
    """Read one label file, and the size of the image where the file does not give it."""
    size, labels = FORMATS[kind].read_labels(path) if path else ((0, 0), [])
    if min(size) <= 0:
        size = picture_size(image) or (0, 0)
    for one in labels if kind == 'yolo' else ():
        yolo.enlarge(one, size)
        if one['name'] >= len(names):
            raise ValueError(
                f'{path} has class {one["name"]}, but there are {len(names)} names (from 0: '
                f'{", ".join(names)}). Correct data.yaml, classes.txt or metainfo.classes.'
            )
        one['name'] = names[one['name']]
    return size, labels if min(size) > 0 else []
