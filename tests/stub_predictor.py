"""A predictor without a model: a pixel's class is its blue value, or one box per image."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from vit_dense.runtime import Detections, Item, PredictOptions, Predictor, Segmentation
from vit_dense.runtime.images import as_image, read_image
from vit_dense.runtime.predictor import Prepared, Task
from vit_dense.runtime.results import Result

CLASSES = ('road', 'sky', 'car')
PALETTE = np.array([[10, 20, 30], [40, 50, 60], [200, 0, 0]], np.uint8)
REFUSED = 99  # blue value of an image that the model fails on


class StubPredictor(Predictor):
    """Counts the batches; fails on images that begin with `REFUSED`."""

    def __init__(self, task: Task = 'segmentation') -> None:
        super().__init__(task, CLASSES, PALETTE)
        self.batches: list[int] = []

    def check(self, options: PredictOptions) -> None:
        if options.tta:
            raise ValueError('tta needs tta_model')

    def prepare(self, item: Item, options: PredictOptions) -> Prepared:
        if item.array is None:
            bgr = read_image(str(item.path))
        else:
            order = item.channel_order or options.channel_order
            bgr = as_image(item.array, channel_order=order)
        return Prepared(bgr.shape, bgr, item, item.path or bgr[..., ::-1])

    def run(self, batch: Sequence[Prepared], options: PredictOptions) -> list[Result]:
        self.batches.append(len(batch))
        if any(one.data[0, 0, 0] == REFUSED for one in batch):
            raise RuntimeError('the model failed')
        return [self._result(one) for one in batch]

    def _result(self, one: Prepared) -> Result:
        if self.task == 'segmentation':
            return Segmentation(one.data[..., 0] % 3, CLASSES, PALETTE, image=one.image)
        height, width = one.data.shape[:2]
        masks = np.zeros((2, height, width), bool)
        masks[0, 1:3, 2:5] = masks[1, :2, :3] = True
        return Detections(
            boxes=np.array([[2, 1, 5, 3], [0, 0, 3, 2]], np.float32),
            scores=np.array([0.9, 0.1], np.float32),
            labels=np.array([2, 0]),
            size=(height, width),
            classes=CLASSES,
            palette=PALETTE,
            masks=masks,
            image=one.image,
        )


def write_image(path: Path, blue: int, size: tuple[int, int] = (40, 60)) -> Path:
    """Write an image of one blue value, of height and width `size`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*size, 3), (blue, 0, 0), np.uint8))
    return path
