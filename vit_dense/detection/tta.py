"""Test-time augmentation of detectors, those with masks included."""

from collections.abc import Sequence

from mmdet.models.test_time_augs import DetTTAModel
from mmdet.structures import DetDataSample
from mmengine.registry import MODELS


@MODELS.register_module()
class BoxTTAModel(DetTTAModel):
    """Merges the boxes that a detector finds in flipped and resized views of an image.

    mmdet's `DetTTAModel` does so, too, but stops at a detector that predicts masks. Here the masks
    of the single views are dropped, as nothing merges them: what is left has boxes only, and
    metrics must ask for no more (`tools/test.py --tta` sees to it).
    """

    def merge_preds(
        self, data_samples_list: Sequence[Sequence[DetDataSample]]
    ) -> list[DetDataSample]:
        """Returns one prediction per image; the outer list is over images, the inner over views."""
        for views in data_samples_list:
            for view in views:
                view.pred_instances.pop('masks', None)
        return super().merge_preds(data_samples_list)
