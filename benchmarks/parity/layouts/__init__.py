"""ViTs of other authors, built small by their own constructors, and files as their scripts save.

Each function takes the folder of a checkout (or None for an installed package) and the edge of the
square token grid, and yields cases. Only mmseg's needs vit_dense, which makes mmseg importable
without compiled ops.
"""

from collections.abc import Callable, Iterator

from benchmarks.parity.layouts.beit import beit, eva02
from benchmarks.parity.layouts.case import Case
from benchmarks.parity.layouts.google import google, timm
from benchmarks.parity.layouts.huggingface import transformers
from benchmarks.parity.layouts.meta import deit, dino, dinov2, mae
from benchmarks.parity.layouts.openmmlab import mmpretrain, mmseg
from benchmarks.parity.layouts.windowed import detectron2, sam

__all__ = ['PROJECTS']

PROJECTS: dict[str, Callable[..., Iterator[Case]]] = {
    'deit': deit,
    'mae': mae,
    'dino': dino,
    'dinov2': dinov2,
    'beit': beit,
    'beit2': beit,
    'eva02': eva02,
    'vision_transformer': google,
    'big_vision': google,
    'mmpretrain': mmpretrain,
    'mmseg': mmseg,
    'timm': timm,
    'transformers': transformers,
    'segment-anything': sam,
    'detectron2': detectron2,
}
