"""ReleasedMask2FormerHead: Mask2Former as the released ViT-Adapter tests it, for its trained files.

mmseg's head upsamples the mask logits and then applies the sigmoid; the release does it in the
opposite order. Labels differ along edges.
"""

from __future__ import annotations

from typing import Any

import torch
from mmengine.registry import MODELS
from mmseg.models.decode_heads import Mask2FormerHead
from mmseg.structures import SegDataSample
from torch import Tensor
from torch.nn import functional as F

from .heads import rename_heads


@MODELS.register_module()
class ReleasedMask2FormerHead(Mask2FormerHead):
    """mmseg's `Mask2FormerHead`; the same arguments, the same training, the release's test.

    Its tensors may have the names of mmdet 2.x, for callers that load without this package's
    hooks, such as `init_model` of mmseg.
    """

    def predict(
        self, x: tuple[Tensor, ...], batch_img_metas: list[dict[str, Any]], test_cfg: Any
    ) -> Tensor:
        """Return probabilities (B, num_classes, H, W) at the size of the image."""
        samples = [SegDataSample(metainfo=meta) for meta in batch_img_metas]
        scores, masks = self(x, samples)  # of each layer; the last one counts
        classes = scores[-1].softmax(-1)[..., :-1]  # (B, Q, num_classes)
        maps = torch.einsum('bqc,bqhw->bchw', classes, masks[-1].sigmoid())
        meta = batch_img_metas[0]
        size = meta['img_shape']
        if not isinstance(size, torch.Size):  # which a window of mmseg's sliding test has
            size = meta.get('pad_shape', size)[:2]
        return F.interpolate(maps, size, mode='bilinear')

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Load as usual, after names of mmdet 2.x were put under those of mmdet 3.x."""
        own = {name: t for name, t in state_dict.items() if name.startswith(prefix)}
        for name in own:
            del state_dict[name]
        head = 'decode_head.'
        renamed = rename_heads({head + name[len(prefix) :]: t for name, t in own.items()})
        state_dict.update({prefix + name[len(head) :]: t for name, t in renamed.items()})
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
