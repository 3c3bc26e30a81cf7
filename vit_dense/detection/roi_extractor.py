"""SingleRoIExtractorFP32: exact regions under mixed precision.

mmdet's extractor converts regions to the type of the maps. A coordinate of 1000 px has steps of
4 px in bfloat16 and of 0.5 px in float16, so that features are sampled beside the object. Here the
maps are converted instead: RoIAlign runs in float32 under autocast in any case.
"""

from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmengine.registry import MODELS
from torch import Tensor

__all__ = ['SingleRoIExtractorFP32']


@MODELS.register_module()
class SingleRoIExtractorFP32(SingleRoIExtractor):
    """mmdet's `SingleRoIExtractor` in float32; same arguments, same result in float32."""

    def forward(
        self,
        feats: tuple[Tensor, ...],
        rois: Tensor,
        roi_scale_factor: float | None = None,
    ) -> Tensor:
        """Sample regions `(K, 5)`, in pixels, from maps `(B, C, h, w)`: `(K, C, out, out)`."""
        maps = tuple(one.float() for one in feats)
        return super().forward(maps, rois.float(), roi_scale_factor)
