"""What timm's families do differently: the only place that touches timm's private names.

A family of isotropic ViTs (`Family`) says with which arguments it is built for images of any size,
how an image becomes tokens, and what a block needs besides tokens. To add one, write a `Family`
subclass in the file it belongs to and enter the timm module that registers its models in
`registry.FAMILIES`; ARCHITECTURE.md has the steps. `pyramids` holds the few facts that
hierarchical models need.
"""

from .base import Family, TokenContext
from .parameters import drop_unused, has_final_norm, layer_ids
from .pyramids import PyramidFamily, find_pyramid_family
from .registry import FAMILIES, find_family

__all__ = [
    'FAMILIES',
    'Family',
    'PyramidFamily',
    'TokenContext',
    'drop_unused',
    'find_family',
    'find_pyramid_family',
    'has_final_norm',
    'layer_ids',
]
