"""Adapters that make a feature pyramid of a plain ViT."""

from .base import MultiScaleAdapter
from .simple_pyramid import SimpleFeaturePyramid
from .vit_adapter import ViTAdapter
from .vit_comer import ViTCoMer

__all__ = [
    'MultiScaleAdapter',
    'SimpleFeaturePyramid',
    'ViTAdapter',
    'ViTCoMer',
]
