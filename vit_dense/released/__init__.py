"""Released ViT-Adapter, ViT-CoMer and DINOv3 adapter checkpoints: names, settings, forward.

Importing the package registers its layouts in `vit_dense.weights` and its types in mmengine's
registry. Nothing else imports it: `vit_dense` works without this folder.

`ReleasedMask2FormerHead` needs mmseg; configs import it by
`custom_imports=dict(imports=['vit_dense.segmentation', 'vit_dense.released.mask2former'])`.
"""

from ..weights import register_foreign
from .checkpoint import Released, recognise_released
from .dinov3 import ReleasedDINOv3, recognise_dinov3
from .heads import rename_heads
from .light_adapter import LightViTAdapter
from .vit import ReleasedTimmViT

__all__ = [
    'LightViTAdapter',
    'Released',
    'ReleasedDINOv3',
    'ReleasedTimmViT',
    'recognise_dinov3',
    'recognise_released',
    'rename_heads',
]

register_foreign(recognise_released)
register_foreign(recognise_dinov3)
