"""SingleRoIExtractorFP32: regions keep their place under mixed precision.

mmdet's extractor converts regions to the type of the maps. A coordinate of 1000 px has steps of
4 px in bfloat16 and of 0.5 px in float16, so that features are taken beside the thing. Here maps
are converted instead, for the sampling alone: RoIAlign runs in float32 under autocast anyway.
"""

from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmengine.registry import MODELS
from torch import Tensor

__all__ = ['SingleRoIExtractorFP32']


@MODELS.register_module()
class SingleRoIExtractorFP32(SingleRoIExtractor):
    """mmdet's `SingleRoIExtractor`, in float32; the same arguments, the same result there."""

    def forward(
        self,
        feats: tuple[Tensor, ...],
        rois: Tensor,
        roi_scale_factor: float | None = None,
    ) -> Tensor:
        """Maps (B, C, h, w) and (K, 5) regions in pixels -> (K, C, out, out), float32."""
        maps = tuple(one.float() for one in feats)
        return super().forward(maps, rois.float(), roi_scale_factor)
