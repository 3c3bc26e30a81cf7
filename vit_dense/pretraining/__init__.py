"""Masked pretraining on images without labels; configs name this package in `custom_imports`.

    custom_imports = dict(imports=['vit_dense.pretraining'], allow_failed_imports=False)

It needs neither mmseg nor mmdet.
"""

from ..engine.load_bands import LoadBands
from .check_hook import PretrainingCheckHook
from .dataset import LabelledImages, UnlabelledImages
from .masked_autoencoder import MaskedAutoencoder
from .pictures_hook import ReconstructionPicturesHook
from .probe import FeatureProbe
from .transforms import BandsPreprocessor, LoadProbeMask, PackImage

__all__ = [
    'BandsPreprocessor',
    'FeatureProbe',
    'LabelledImages',
    'LoadBands',
    'LoadProbeMask',
    'MaskedAutoencoder',
    'PackImage',
    'PretrainingCheckHook',
    'ReconstructionPicturesHook',
    'UnlabelledImages',
]
