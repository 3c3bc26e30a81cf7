"""Save pictures of segmentation: input, truth and prediction side by side."""

from collections.abc import Sequence
from typing import ClassVar

from mmengine.registry import HOOKS
from mmseg.structures import SegDataSample

from ..data.pictures import Colours, Picture, overlay, side_by_side
from ..engine.pictures_hook import PicturesHook


@HOOKS.register_module()
class SegPicturesHook(PicturesHook):
    """Draw label maps over their image at validation and test; arguments of `PicturesHook`."""

    CONTENT: ClassVar[str] = 'input, truth, prediction'

    def draw_sample(
        self, image: Picture, sample: SegDataSample, classes: Sequence[str], palette: Colours
    ) -> Picture:
        """Return input, truth (if there is one) and prediction side by side, RGB."""
        pictures = [image]
        for key in ('gt_sem_seg', 'pred_sem_seg'):
            if key in sample:
                labels = sample.get(key).data.squeeze(0).cpu().numpy()
                pictures.append(overlay(image, labels, palette, opacity=self.opacity))
        return side_by_side(pictures)
