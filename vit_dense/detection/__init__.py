"""Detection and instance segmentation with mmdet: what configs name in `custom_imports`.

    custom_imports = dict(imports=['vit_dense.detection'], allow_failed_imports=False)

Importing it registers our data sets, hooks, necks and `BoxTTAModel`. Nothing else in the package
imports mmdet; that it can be imported without compiled mmcv operators is the work of
`vit_dense.compat`, which runs when the parent package is imported, hence before the lines below.
"""

from ..compat.openmmlab import require

require('mmdet')

from ..engine.normalization_check import NormalizationCheckHook  # noqa: E402
from .check_hook import DetCheckHook  # noqa: E402
from .dataset import CheckedCocoDataset  # noqa: E402
from .necks import LastLevelMaxPool, SelectMaps  # noqa: E402
from .pictures_hook import DetPicturesHook  # noqa: E402
from .roi_extractor import SingleRoIExtractorFP32  # noqa: E402
from .rpn_head import RPNHeadFP32  # noqa: E402
from .tta import BoxTTAModel  # noqa: E402

__all__ = [
    'BoxTTAModel',
    'CheckedCocoDataset',
    'DetCheckHook',
    'DetPicturesHook',
    'LastLevelMaxPool',
    'NormalizationCheckHook',
    'RPNHeadFP32',
    'SelectMaps',
    'SingleRoIExtractorFP32',
]
