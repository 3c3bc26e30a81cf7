"""Which ids images and categories have in a file of COCO results."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .inputs import Item


@dataclass(frozen=True)
class CocoIds:
    """Ids of one run.

    Args:
        images: By the name of an image's files.
        categories: By the name of a class.
    """

    images: dict[str, int]
    categories: dict[str, int]

    def without(self, names: Iterable[str]) -> 'CocoIds':
        """Return the ids but those of some images."""
        dropped = set(names)
        kept = {name: number for name, number in self.images.items() if name not in dropped}
        return replace(self, images=kept)


def count_ids(names: dict[str, Item], classes: Sequence[str]) -> CocoIds:
    """Return ids that count the classes from 1, and those of images by their names.

    The id of an image is the number in the name of its file if all names are different numbers, as
    those of COCO are; else images are numbered from 1 in their order.
    """
    stems = [Path(name).name for name in names]
    numbers = [int(stem) for stem in stems if stem.isdecimal()]
    is_numbered = len(set(numbers)) == len(stems)
    images = dict(zip(names, numbers if is_numbered else range(1, len(stems) + 1), strict=True))
    return CocoIds(images, {name: number for number, name in enumerate(classes, 1)})


def read_ids(path: str | Path, names: dict[str, Item], classes: Sequence[str]) -> CocoIds:
    """Take the ids of an annotation file, with which results are to be evaluated.

    Images are found by `file_name`, whole or without its folders; categories by name.

    Raises:
        ValueError: It is no file of COCO's, or lacks an image or a class.
    """
    try:
        content = json.loads(Path(path).read_text(encoding='utf-8'))
        categories = {one['name']: int(one['id']) for one in content['categories']}
        files = {one['file_name']: int(one['id']) for one in content['images']}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f'--annotations {path}: not a file of COCO ({error!r}).') from error
    lacking = [name for name in classes if name not in categories]
    if lacking:
        raise ValueError(
            f'--annotations {path} lacks classes of the model: {", ".join(lacking)}.\n'
            f'It has: {", ".join(categories)}.'
        )
    last = {Path(name).name: number for name, number in files.items()}
    short = last if len(last) == len(files) else {}
    found = {
        name: files.get(item.name, short.get(Path(item.name).name)) for name, item in names.items()
    }
    absent = [names[name].name for name, number in found.items() if number is None]
    if absent:
        raise ValueError(
            f'--annotations {path} lacks {len(absent)} of {len(names)} images, such as {absent[0]}.'
        )
    return CocoIds({n: i for n, i in found.items() if i is not None}, categories)
