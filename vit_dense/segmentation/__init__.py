"""Semantic segmentation with mmsegmentation; configs name this package in `custom_imports`.

    custom_imports = dict(imports=['vit_dense.segmentation'], allow_failed_imports=False)

Importing it registers the data sets, hooks and heads. No other package of vit_dense imports mmseg.
`vit_dense.compat`, which runs when the parent package is imported, makes mmseg importable without
compiled mmcv operators.
"""

from ..compat.deferred_imports import import_mmseg_models
from ..compat.openmmlab import require

require('mmseg')
import_mmseg_models()

from ..engine import NormalizationCheckHook  # noqa: E402
from ..engine.load_bands import LoadBands  # noqa: E402
from . import corrections as _corrections  # noqa: E402
from . import metric_figures as _metric_figures  # noqa: E402, F401
from .check_hook import SegCheckHook  # noqa: E402
from .dataset import CheckedADE20KDataset, CheckedSegDataset  # noqa: E402
from .eomt import EoMT  # noqa: E402
from .fast_uper_head import FastUPerHead  # noqa: E402
from .linear_head import LinearHead  # noqa: E402
from .loading import LoadMaskAnnotations  # noqa: E402
from .pictures_hook import SegPicturesHook  # noqa: E402

_corrections.install()

__all__ = [
    'CheckedADE20KDataset',
    'CheckedSegDataset',
    'EoMT',
    'FastUPerHead',
    'LinearHead',
    'LoadBands',
    'LoadMaskAnnotations',
    'NormalizationCheckHook',
    'SegCheckHook',
    'SegPicturesHook',
]
