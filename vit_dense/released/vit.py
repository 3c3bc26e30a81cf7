"""ReleasedTimmViT: the ViT as the released ViT-Adapter and ViT-CoMer run it, for trained weights.

`plain_family.py` and `beit_family.py` have what differs.
"""

from __future__ import annotations

from mmengine.registry import MODELS

from ..backbones import TimmViT
from .plain_family import released_family


@MODELS.register_module()
class ReleasedTimmViT(TimmViT):
    """A `TimmViT` to put in its place when a released checkpoint is tested or trained further.

    The same arguments, but:

    - a plain ViT has no cls token, resizes positions without antialias, and its windows at the edge
      attend to zeros beyond it. (The weights fit a `TimmViT` without cls token, too; its maps
      differ.) `model_kwargs=dict(init_values=1.0)` keeps the LayerScale that most files have;
      without, it is multiplied into the weights;
    - BEiT is timm's in segmentation. With `window_size`, an edge for each block, it is the
      detectors', for whose files alone it is meant.
    """

    _find_family = staticmethod(released_family)
    _antialias = False
