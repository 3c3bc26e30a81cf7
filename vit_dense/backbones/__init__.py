"""timm models as backbones."""

from .cached_vit import CachedTimmViT
from .lora import LoRATimmViT
from .plain_vit import PlainViT
from .timm_pyramid import TimmPyramid
from .timm_vit import TimmViT

__all__ = ['CachedTimmViT', 'LoRATimmViT', 'PlainViT', 'TimmPyramid', 'TimmViT']
