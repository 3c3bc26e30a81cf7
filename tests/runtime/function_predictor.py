"""Predictors whose answers are known: a function from an image to scores or objects."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vit_dense.runtime import Detections, Item, PredictOptions, Predictor, Segmentation
from vit_dense.runtime.predictor import Prepared, Task
from vit_dense.runtime.results import Result
from vit_dense.runtime.tile_model import TileModel

Function = Callable[[NDArray[Any]], Any]


class FunctionPredictor(Predictor):
    """Calls a function with each image, BGR, and remembers the images.

    Args:
        function: Returns scores (C, h, w), or boxes, scores, labels and masks or None.
        classes: How many.
        task: 'segmentation' or 'detection'.
        tile: Arguments of `TileModel`.
    """

    def __init__(
        self, function: Function, classes: int = 3, task: Task = 'segmentation', **tile: Any
    ) -> None:
        palette = (np.arange(classes * 3) % 251).astype(np.uint8).reshape(-1, 3)
        super().__init__(task, [f'class {i}' for i in range(classes)], palette)
        self.function = function
        self.tile = tile
        self.images: list[NDArray[Any]] = []
        self.batches: list[int] = []

    def check(self, options: PredictOptions) -> None:
        pass

    def tile_model(self) -> TileModel:
        return TileModel(self, **self.tile)

    def prepare(self, item: Item, options: PredictOptions) -> Prepared:
        assert item.array is not None
        order = item.channel_order or options.channel_order
        bgr = item.array if order == 'bgr' else item.array[..., ::-1]
        return Prepared(bgr.shape, bgr, item)

    def run(self, batch: Sequence[Prepared], options: PredictOptions) -> list[Result]:
        self.images += [one.data for one in batch]
        self.batches.append(len(batch))
        return [self._result(self.function(one.data), one.data.shape[:2]) for one in batch]

    def _result(self, answer: Any, size: tuple[int, int]) -> Result:
        if self.task == 'segmentation':
            scores = np.asarray(answer, np.float32)
            labels = scores.argmax(axis=0).astype(np.min_scalar_type(len(self.classes) - 1))
            if len(scores) == 1:
                labels = (scores[0] > self.tile['threshold']).astype(np.uint8)
            return Segmentation(labels, self.classes, self.palette, scores)
        boxes, scores, labels, masks = answer
        return Detections(
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(scores, np.float32),
            np.array(labels, np.int64),
            size,
            self.classes,
            self.palette,
            masks,
        )


def pixel_scores(image: NDArray[Any]) -> NDArray[np.float32]:
    """Class probabilities of each pixel from its three channels: no surroundings are seen."""
    levels = np.moveaxis(image, -1, 0).astype(np.float32) + 1
    return levels / levels.sum(axis=0)
