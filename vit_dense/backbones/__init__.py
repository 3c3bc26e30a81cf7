"""timm models as backbones."""

from .timm_vit import TimmViT

__all__ = ['TimmViT']
