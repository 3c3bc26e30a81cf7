"""ViTs of other authors, built small by their own constructors, and files as their scripts save.

Each function takes the folder of a checkout (or None, where the project is an installed package)
and the edge of the square token grid, and yields cases. Only mmseg's needs vit_dense, which lets
it be imported without compiled ops.
"""

from collections.abc import Callable, Iterator

from layout_beit import beit, eva02
from layout_case import Case
from layout_jax import google, timm
from layout_meta import deit, detectron2, dino, dinov2, mae, sam
from layout_openmmlab import mmpretrain, mmseg

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
    'segment-anything': sam,
    'detectron2': detectron2,
}
