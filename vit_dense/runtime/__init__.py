"""Use models: results, reading of images, and files written by `vit-dense export`.

Imports NumPy and OpenCV alone, neither PyTorch nor OpenMMLab.
"""

from .exported import ExportedPredictor, load_exported
from .inputs import InputError, Item
from .predictor import PredictOptions, Predictor
from .results import Detections, Segmentation

__all__ = [
    'Detections',
    'ExportedPredictor',
    'InputError',
    'Item',
    'PredictOptions',
    'Predictor',
    'Segmentation',
    'load_exported',
]
