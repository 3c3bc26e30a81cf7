"""Test-time augmentation of detectors, including those with masks."""

from collections.abc import Sequence

from mmdet.models.test_time_augs import DetTTAModel
from mmdet.structures import DetDataSample
from mmengine.registry import MODELS


@MODELS.register_module()
class BoxTTAModel(DetTTAModel):
    """Merge the boxes that a detector finds in flipped and resized views of an image.

    mmdet's `DetTTAModel` does the same, but fails for a detector that predicts masks. This model
    drops the masks of the views, which nothing merges, so that metrics can only measure boxes;
    `tools/test.py --tta` removes masks from the metrics of a config.
    """

    def merge_preds(
        self, data_samples_list: Sequence[Sequence[DetDataSample]]
    ) -> list[DetDataSample]:
        """Return one prediction per image; the outer list is over images, the inner over views."""
        for views in data_samples_list:
            for view in views:
                view.pred_instances.pop('masks', None)
        return super().merge_preds(data_samples_list)
