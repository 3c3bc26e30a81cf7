"""Predictors without a model: what they return is known from the pixels."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vit_dense.runtime import Detections, Predictor, Segmentation
from vit_dense.runtime.images import read_image
from vit_dense.runtime.inputs import Item
from vit_dense.runtime.predictor import PredictOptions, Prepared
from vit_dense.runtime.results import Result

CLASSES = ('dark', 'middle', '<b>bright</b>')
PALETTE = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)


class FakePredictor(Predictor):
    """Calls pixels dark, middle or bright by their green level; finds three objects of fixed size.

    Args:
        task: 'segmentation' or 'detection'.
        fault: What `prepare` raises, or None.
    """

    def __init__(self, task: Any = 'segmentation', fault: Exception | None = None) -> None:
        super().__init__(task, CLASSES, PALETTE)
        self.calls = 0
        self.fault = fault

    def check(self, options: PredictOptions) -> None:
        pass

    def prepare(self, item: Item, options: PredictOptions) -> Prepared:
        if self.fault is not None:
            raise self.fault
        image = np.ascontiguousarray(read_image(str(item.path))[..., ::-1])
        return Prepared(image.shape, image, item)

    def run(self, batch: Sequence[Prepared], options: PredictOptions) -> list[Result]:
        self.calls += 1
        return [self._result(one.data) for one in batch]

    def _result(self, image: Any) -> Result:
        if self.task == 'segmentation':
            labels = (image[..., 1] // 86).astype(np.uint8)
            return Segmentation(labels, CLASSES, PALETTE, image=image)
        height, width = image.shape[:2]
        boxes = np.array(
            [
                [0, 0, width / 2, height / 2],
                [0, height / 2, width, height],
                [width / 2, 0, width, 9],
            ],
            np.float32,
        )
        masks = np.zeros((3, height, width), bool)
        masks[0, : height // 2, : width // 2] = True
        scores = np.array([0.9, 0.5, 0.2], np.float32)
        labels = np.array([0, 0, 2])
        return Detections(boxes, scores, labels, (height, width), CLASSES, PALETTE, masks, image)
