"""Detection and instance segmentation with mmdet; configs name this package in `custom_imports`.

    custom_imports = dict(imports=['vit_dense.detection'], allow_failed_imports=False)

Importing it registers the data sets, hooks, necks and `BoxTTAModel`. No other package of vit_dense
imports mmdet. `vit_dense.compat`, which runs when the parent package is imported, makes mmdet
importable without compiled mmcv operators.
"""

from ..compat.openmmlab import require

require('mmdet')

from ..engine import NormalizationCheckHook  # noqa: E402
from ..engine.load_bands import LoadBands  # noqa: E402
from . import metric_figures as _metric_figures  # noqa: E402, F401
from .check_hook import DetCheckHook  # noqa: E402
from .dataset import CheckedCocoDataset  # noqa: E402
from .metric import CheckedCocoMetric  # noqa: E402
from .necks import LastLevelMaxPool  # noqa: E402
from .pictures_hook import DetPicturesHook  # noqa: E402
from .roi_extractor import SingleRoIExtractorFP32  # noqa: E402
from .rpn_head import RPNHeadFP32  # noqa: E402
from .tta import BoxTTAModel  # noqa: E402

__all__ = [
    'BoxTTAModel',
    'CheckedCocoDataset',
    'CheckedCocoMetric',
    'DetCheckHook',
    'DetPicturesHook',
    'LastLevelMaxPool',
    'LoadBands',
    'NormalizationCheckHook',
    'RPNHeadFP32',
    'SingleRoIExtractorFP32',
]
