"""Released ViT-Adapter and ViT-CoMer checkpoints: their names, their settings, their forward.

Importing the package registers its layout in `vit_dense.weights` and its types in mmengine's
registry. Nothing else imports it: `vit_dense` works without this folder.

`ReleasedMask2FormerHead` needs mmseg; configs import it by
`custom_imports=dict(imports=['vit_dense.segmentation', 'vit_dense.released.mask2former'])`.
"""

from ..weights import register_foreign
from .checkpoint import Released, recognise_released
from .heads import rename_heads
from .light_adapter import LightViTAdapter
from .vit import ReleasedTimmViT

__all__ = [
    'LightViTAdapter',
    'Released',
    'ReleasedTimmViT',
    'recognise_released',
    'rename_heads',
]

register_foreign(recognise_released)
