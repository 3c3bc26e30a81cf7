"""Differences between timm's families; the only package that uses timm's private names.

A family of isotropic ViTs (`Family`) defines the arguments that build it for images of any size,
how an image becomes tokens, and what a block needs besides tokens. To add one, write a `Family`
subclass and add the timm module that registers its models to `registry.FAMILIES`; ARCHITECTURE.md
lists the steps. `pyramids` has the few settings of hierarchical models.
"""

from .base import Family, TokenContext
from .fused import explicit_attention
from .parameters import drop_unused, has_final_norm, layer_ids, start_positions
from .pyramids import PyramidFamily, find_pyramid_family
from .registry import FAMILIES, find_family

__all__ = [
    'FAMILIES',
    'Family',
    'PyramidFamily',
    'TokenContext',
    'drop_unused',
    'explicit_attention',
    'find_family',
    'find_pyramid_family',
    'has_final_norm',
    'layer_ids',
    'start_positions',
]
