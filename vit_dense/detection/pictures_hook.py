"""Save pictures of detection: truth and prediction side by side."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from mmdet.structures import DetDataSample
from mmengine.registry import HOOKS

from ..data.instance_pictures import draw_instances
from ..data.pictures import Colours, Picture, side_by_side
from ..engine.pictures_hook import PicturesHook


@HOOKS.register_module()
class DetPicturesHook(PicturesHook):
    """Draw boxes and masks at validation and test.

    Args:
        score: Minimum score of predictions to draw, in [0, 1).
        opacity: Share of the class colours in masks, 0..1.
        options: Further arguments of `PicturesHook`: count, folder, sheet_size.

    Raises:
        ValueError: `score` is out of its range.
    """

    CONTENT: ClassVar[str] = 'truth, prediction'

    def __init__(self, *, score: float = 0.3, opacity: float = 0.4, **options: Any) -> None:
        super().__init__(opacity=opacity, **options)
        if not 0 <= score < 1:
            raise ValueError(
                f'DetPicturesHook got score={score}: give the minimum score to draw, in [0, 1).'
            )
        self.score = score

    def draw_sample(
        self, image: Picture, sample: DetDataSample, classes: Sequence[str], palette: Colours
    ) -> Picture:
        """Return truth (if there is one) and prediction side by side, RGB."""
        pictures = []
        if 'gt_instances' in sample:
            pictures.append(self._instances(image, sample.gt_instances, palette, ()))
        found = sample.pred_instances
        found = found[found.scores >= self.score]
        texts = [
            f'{classes[int(label)]} {100 * float(score):.0f}'
            for label, score in zip(found.labels, found.scores, strict=True)
        ]
        return side_by_side([*pictures, self._instances(image, found, palette, texts)])

    def _instances(
        self, image: Picture, instances: Any, palette: Colours, texts: Sequence[str]
    ) -> Picture:
        boxes = instances.bboxes
        boxes = np.asarray(getattr(boxes, 'tensor', boxes).detach().cpu())
        masks = instances.get('masks')
        if masks is not None:
            # mmdet: BitmapMasks and PolygonMasks for truth, a tensor for predictions
            masks = masks.to_ndarray() if hasattr(masks, 'to_ndarray') else np.asarray(masks.cpu())
            masks = masks.astype(bool)
        labels = [int(label) for label in instances.labels]
        return draw_instances(
            image, boxes, labels, palette, texts=texts, masks=masks, opacity=self.opacity
        )
