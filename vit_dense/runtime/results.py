"""What models predict, in NumPy: one label per pixel, or boxes and masks of objects."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.instance_pictures import draw_instances
from ..data.pictures import Picture, overlay
from .images import read_image
from .writing import encode_mask, write_bytes, write_index_png


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The class of every pixel of an image.

    Args:
        labels: `(H, W)` class indices of the original image, uint8, or uint16 if there are more
            than 256 classes.
        classes: Name of each class.
        palette: `(num_classes, 3)` uint8, the RGB colour of each class.
        scores: `(num_classes, H, W)` float32, the probability of each class, or None. A model of
            one channel has `(1, H, W)`, the probability of class 1.
        image: The image, `(H, W, 3)` uint8 RGB, or the path to read it from; None if unknown.
    """

    labels: NDArray[Any]
    classes: tuple[str, ...]
    palette: NDArray[np.uint8]
    scores: NDArray[np.float32] | None = None
    image: Picture | str | None = None

    def draw(self, image: Picture | None = None, *, opacity: float = 0.6) -> Picture:
        """Return the class colours over the image, `(H, W, 3)` uint8 RGB.

        Args:
            image: `(H, W, 3)` uint8 RGB; default: the image that was given to `predict`.
            opacity: Share of the class colours, 0..1.
        """
        background = _image(image if image is not None else self.image, self.labels.shape)
        return overlay(background, self.labels, self.palette.tolist(), opacity=opacity)

    def areas(self) -> dict[str, float]:
        """Return the share of the image that each class covers, 0..1, for classes that occur."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.classes))
        return {
            name: float(count) / self.labels.size
            for name, count in zip(self.classes, counts, strict=False)
            if count
        }

    def save(self, path: str | Path) -> None:
        """Write the labels as a PNG of class indices, with the palette up to 256 classes."""
        write_index_png(path, self.labels, self.palette)


@dataclass(frozen=True, eq=False)
class Detections:
    """The objects in an image, the most certain first.

    Args:
        boxes: `(N, 4)` float32, corners `x1, y1, x2, y2` in pixels of the original image.
        scores: `(N,)` float32, 0..1.
        labels: `(N,)` int64 class indices.
        size: Height and width of the original image.
        classes: Name of each class.
        palette: `(num_classes, 3)` uint8, the RGB colour of each class.
        masks: `(N, H, W)` bool, or None for a model without masks.
        image: The image, `(H, W, 3)` uint8 RGB, or the path to read it from; None if unknown.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    size: tuple[int, int]
    classes: tuple[str, ...]
    palette: NDArray[np.uint8]
    masks: NDArray[np.bool_] | None = None
    image: Picture | str | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def select(
        self, *, score_threshold: float = 0.0, classes: Sequence[str] | None = None
    ) -> 'Detections':
        """Return the objects with at least this score, of these classes (default: all).

        Raises:
            ValueError: A class is not one of the model's.
        """
        kept = self.scores >= score_threshold
        if classes is not None:
            kept &= np.isin(self.labels, class_indices(classes, self.classes))
        masks = None if self.masks is None else self.masks[kept]
        return replace(
            self,
            boxes=self.boxes[kept],
            scores=self.scores[kept],
            labels=self.labels[kept],
            masks=masks,
        )

    def draw(self, image: Picture | None = None, *, opacity: float = 0.6) -> Picture:
        """Return boxes, masks, classes and scores over the image, uint8 RGB.

        Images less than 256 pixels high are enlarged by a whole factor.

        Args:
            image: `(H, W, 3)` uint8 RGB; default: the image that was given to `predict`.
            opacity: Share of the class colour in a mask, 0..1.
        """
        background = _image(image if image is not None else self.image, self.size)
        return draw_instances(
            background,
            self.boxes,
            self.labels.tolist(),
            self.palette.tolist(),
            texts=[
                f'{self.classes[label]} {score:.2f}'
                for label, score in zip(self.labels, self.scores, strict=True)
            ],
            masks=self.masks,
            opacity=opacity,
        )

    def coco(self, image_id: int | str = 0) -> list[dict[str, Any]]:
        """Return the entries of a COCO results file.

        Boxes are `[x, y, width, height]` in pixels, masks run lengths, `category_id` is the
        class index plus 1, and `category_name` its name.
        """
        entries: list[dict[str, Any]] = []
        for index, (box, label) in enumerate(zip(self.boxes, self.labels, strict=True)):
            x1, y1, x2, y2 = (float(edge) for edge in box)
            entry = {
                'image_id': image_id,
                'category_id': int(label) + 1,
                'category_name': self.classes[label],
                'bbox': [x1, y1, x2 - x1, y2 - y1],
                'score': float(self.scores[index]),
            }
            if self.masks is not None:
                entry['segmentation'] = encode_mask(self.masks[index])
            entries.append(entry)
        return entries

    def save(self, path: str | Path) -> None:
        """Write the objects as JSON, in the format of COCO results."""
        write_bytes(path, json.dumps(self.coco()).encode())


Result = Segmentation | Detections


def class_indices(wanted: Iterable[str], classes: Sequence[str]) -> list[int]:
    """Return the index of each name in `wanted`.

    Raises:
        ValueError: A name is not in `classes`.
    """
    unknown = [name for name in wanted if name not in classes]
    if unknown:
        raise ValueError(
            f'The model has no class {", ".join(map(repr, unknown))}. Its classes are: '
            f'{", ".join(classes)}.'
        )
    return [classes.index(name) for name in wanted]


def _image(image: Picture | str | None, size: Sequence[int]) -> Picture:
    if image is None:
        raise ValueError('There is no image to draw on: pass it, draw(image).')
    picture = read_image(image)[..., ::-1] if isinstance(image, str) else image
    if picture.shape[:2] != tuple(size):
        raise ValueError(
            f'The image has {picture.shape[0]}x{picture.shape[1]} pixels, the prediction '
            f'{size[0]}x{size[1]}. Draw on the image that was predicted.'
        )
    return np.ascontiguousarray(picture)
