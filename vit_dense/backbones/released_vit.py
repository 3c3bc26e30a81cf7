"""ReleasedTimmViT: the ViT as the released ViT-Adapter and ViT-CoMer run it, for trained weights.

`families/released.py` has what differs.
"""

from __future__ import annotations

from typing import Any

from mmengine.registry import MODELS

from .families import released_family
from .timm_vit import TimmViT

_NO_CLS_TOKEN = {'class_token': False, 'global_pool': 'avg'}


@MODELS.register_module()
class ReleasedTimmViT(TimmViT):
    """A `TimmViT` to put in its place when a released checkpoint is tested or trained further.

    It has no cls token, resizes positions without antialias, and its windows at the edge attend to
    zeros beyond it. The weights fit a `TimmViT` without cls token, too, but the maps differ then.
    """

    _find_family = staticmethod(released_family)
    _antialias = False

    def __init__(
        self, model_name: str, *, model_kwargs: dict[str, Any] | None = None, **vit: Any
    ) -> None:
        """
        Args:
            model_name: timm name of a plain ViT without distillation and register tokens, such as
                'deit_base_patch16_224.fb_in1k'.
            model_kwargs: as in `TimmViT`. `init_values=1.0` keeps a LayerScale of its own, which
                the files of most releases have; without, it is multiplied into the weights.
            vit: further arguments of `TimmViT`.

        Raises:
            ValueError: as `TimmViT`, or a ViT that the releases do not use.
        """
        super().__init__(model_name, model_kwargs={**_NO_CLS_TOKEN, **(model_kwargs or {})}, **vit)
