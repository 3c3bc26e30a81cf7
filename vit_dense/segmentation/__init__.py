"""Semantic segmentation with mmsegmentation: what configs name in `custom_imports`.

    custom_imports = dict(imports=['vit_dense.segmentation'], allow_failed_imports=False)

Importing it registers our data sets, hooks and heads. Nothing else in the package imports
mmseg; that mmseg can be imported without compiled mmcv operators is the work of `vit_dense.compat`,
which runs when the parent package is imported, hence before the lines below.
"""

from ..compat.openmmlab import require

require('mmseg')

from ..engine.normalization_check import NormalizationCheckHook  # noqa: E402
from .check_hook import SegCheckHook  # noqa: E402
from .dataset import CheckedADE20KDataset, CheckedSegDataset  # noqa: E402
from .linear_head import LinearHead  # noqa: E402
from .pictures_hook import SegPicturesHook  # noqa: E402

__all__ = [
    'CheckedADE20KDataset',
    'CheckedSegDataset',
    'LinearHead',
    'NormalizationCheckHook',
    'SegCheckHook',
    'SegPicturesHook',
]
