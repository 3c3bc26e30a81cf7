"""Write results as index masks, overlays and JSON, under the names of the images."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..data.pictures import Picture
from .coco_ids import CocoIds
from .inputs import Item
from .results import Detections, Result, Segmentation, class_indices
from .writing import write_bytes, write_index_png, write_picture

KINDS = ('masks', 'overlays', 'json')
# Below this score, detections are noise to the eye.
SHOWN_SCORE = 0.3


@dataclass(frozen=True)
class Output:
    """Where results go, and which.

        OUT/masks/NAME.png       class index of each pixel; of detections the number of the object,
                                 from 1 in the order of the JSON (0 is none)
        OUT/overlays/NAME.png    the picture
        OUT/json/NAME.json       shares of the classes, or objects as COCO results
        OUT/predictions.json     all objects, in one file of COCO results

    Args:
        folder: OUT.
        kinds: Of `KINDS`.
        score_threshold: Minimum score of objects; None keeps all in JSON, and those of at least
            0.3 in pictures and masks.
        classes: Of objects, and of colours in the overlays of a segmentation; None for all.
    """

    folder: Path
    kinds: tuple[str, ...]
    score_threshold: float | None = None
    classes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        unknown = sorted(set(self.kinds) - set(KINDS))
        if unknown or not self.kinds:
            raise ValueError(
                f'--save {",".join(self.kinds)}: give one or more of {",".join(KINDS)}.'
            )
        if self.score_threshold is not None and not 0 <= self.score_threshold <= 1:
            raise ValueError(f'--score-threshold {self.score_threshold}: give a number in 0..1.')

    def paths(self, name: str, mask_suffix: str = '.png') -> dict[str, Path]:
        """Return the file of each kind for an image called `name`."""
        suffixes = {'masks': mask_suffix, 'overlays': '.png', 'json': '.json'}
        return {kind: self.folder / kind / f'{name}{suffixes[kind]}' for kind in self.kinds}

    def is_complete(self, name: str, mask_suffix: str = '.png') -> bool:
        """Return whether every file for this image is there; files are written whole."""
        return all(path.is_file() for path in self.paths(name, mask_suffix).values())

    def write(self, name: str, file_name: str, result: Result) -> None:
        """Write the files of one image.

        Raises:
            ValueError: The image cannot be read again to draw on it.
            OSError: The disk is full or the folder cannot be written.
        """
        paths = self.paths(name)
        if 'masks' in paths:
            self.write_mask(name, result)
        if 'overlays' in paths:
            write_picture(paths['overlays'], self.draw(result))
        if 'json' in paths:
            content = {'file_name': file_name, **self.describe(result)}
            write_bytes(paths['json'], json.dumps(content).encode())

    def write_mask(self, name: str, result: Result) -> None:
        """Write the mask of one image."""
        path = self.folder / 'masks' / f'{name}.png'
        if isinstance(result, Segmentation):
            result.save(path)
            return
        shown = self._shown(result)
        if shown.masks is None:
            raise ValueError('masks: this detector predicts boxes alone. Use --save overlays,json.')
        numbers = np.zeros(shown.size, np.uint16)
        for index in reversed(range(len(shown))):  # the most certain on top
            numbers[shown.masks[index]] = index + 1
        write_index_png(path, numbers, shown.palette)

    def draw(self, result: Result) -> Picture:
        """Return the overlay, of the classes and scores that are shown."""
        if isinstance(result, Detections):
            return self._shown(result).draw()
        if self.classes is None:
            return result.draw()
        # Labels without a colour leave the image visible.
        kept = np.isin(result.labels, class_indices(self.classes, result.classes))
        return replace(result, labels=np.where(kept, result.labels, -1).astype(np.int32)).draw()

    def describe(self, result: Result) -> dict[str, Any]:
        """Return the content of the JSON file of one image."""
        if isinstance(result, Segmentation):
            height, width = result.labels.shape
            return {'height': height, 'width': width, 'areas': result.areas()}
        height, width = result.size
        selected = result.select(score_threshold=self.score_threshold or 0.0, classes=self.classes)
        return {'height': height, 'width': width, 'detections': selected.coco()}

    def merge(self, ids: CocoIds) -> Path:
        """Write the objects of all images into one file of COCO results, and return its path."""
        entries: list[dict[str, Any]] = []
        for name, number in ids.images.items():
            path = self.folder / 'json' / f'{name}.json'
            if not path.is_file():
                continue  # an image that could not be read
            content = json.loads(path.read_text())
            for one in content['detections']:
                category = ids.categories[one['category_name']]
                own = {'image_id': number, 'category_id': category}
                entries.append({**one, **own, 'file_name': content['file_name']})
        merged = self.folder / 'predictions.json'
        write_bytes(merged, json.dumps(entries).encode())
        return merged

    def _shown(self, result: Detections) -> Detections:
        least = SHOWN_SCORE if self.score_threshold is None else self.score_threshold
        return result.select(score_threshold=least, classes=self.classes)


def output_names(items: Sequence[Item]) -> dict[str, Item]:
    """Return the images by the name of their files: without suffix, where that is unique.

    Raises:
        ValueError: Two images would have files of the same name.
    """
    stems = [str(Path(item.name).with_suffix('')) for item in items]
    counts = Counter(stems)
    names: dict[str, Item] = {}
    for item, stem in zip(items, stems, strict=True):
        name = stem if counts[stem] == 1 else item.name
        if name in names:
            raise ValueError(
                f'{names[name].path} and {item.path} would both be written as {name}. Give the '
                'folder that contains both, so that its sub-folders are kept.'
            )
        names[name] = item
    return names
