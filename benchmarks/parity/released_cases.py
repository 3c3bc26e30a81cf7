"""The released models that `released_models.py` compares, their inputs, and the raw outputs.

Both sides import this file: mmseg 0.x and mmdet 2.x in one process, their successors in another.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SLIDE = {'test_cfg': {'mode': 'slide', 'crop_size': (128, 128), 'stride': (85, 85)}}


@dataclass(frozen=True)
class Case:
    """One released model.

    Attributes:
        config: Config file of the release, in its checkout.
        leaf: Our config.
        theirs, ours: Changes to the release's model and to ours.
        sizes: (height, width) of the images.
    """

    config: str
    leaf: str
    theirs: dict[str, Any] = field(default_factory=dict)
    ours: dict[str, Any] = field(default_factory=dict)
    sizes: tuple[tuple[int, int], ...] = ((128, 192), (224, 160))

    @property
    def task(self) -> str:
        """Return 'segmentation' or 'detection'."""
        return self.config.split('/')[0]


def small_mask2former() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return changes to the release's config and to ours: BEiT of four blocks, 64 wide."""
    beit = {'img_size': 128, 'embed_dim': 64, 'depth': 4, 'num_heads': 4}
    stages = {'with_cp': False, 'interaction_indexes': [[i, i] for i in range(4)]}
    attention, ffn = {'embed_dims': 64, 'num_heads': 4}, {'embed_dims': 64}
    ffn |= {'feedforward_channels': 256}
    encoding = {'positional_encoding': {'num_feats': 32}}
    head = {'in_channels': [64] * 4, 'feat_channels': 64, 'out_channels': 64, 'num_queries': 20}

    def transformers(name: str, encoder: Any, decoder: Any) -> dict[str, Any]:
        pixel_decoder = encoding | {'encoder': {'num_layers': 3, name: encoder}}
        layers = {'num_layers': 4, name: decoder}
        return head | encoding | {'pixel_decoder': pixel_decoder, 'transformer_decoder': layers}

    old = {'attn_cfgs': attention, 'ffn_cfgs': ffn}
    new = {'self_attn_cfg': attention, 'ffn_cfg': ffn}
    theirs = transformers('transformerlayers', old, old | {'feedforward_channels': 256})
    ours = transformers('layer_cfg', new, new | {'cross_attn_cfg': attention})
    deform = {'deform_num_heads': 4}
    return (
        {'backbone': beit | stages | deform, 'decode_head': theirs, **SLIDE},
        {'backbone': {'vit': {'model_kwargs': beit}, **deform}, 'decode_head': ours, **SLIDE},
    )


_SEG, _DET = 'segmentation/configs/ade20k', 'detection/configs'
_ADE, _COCO = '8xb2-160k_ade20k-512x512', '8xb2-3x_coco'
# the mean of three random classifiers passes no usual threshold
_LOW_THRESHOLD = {'test_cfg': {'rcnn': {'score_thr': 0.02}}}
CASES = {
    'ViT-Adapter-T, UPerNet': Case(
        f'{_SEG}/upernet_deit_adapter_tiny_512_160k_ade20k.py',
        f'vit_adapter/vit-adapter-t-deit_upernet_{_ADE}',
        *(SLIDE, SLIDE),
    ),
    'ViT-CoMer-T, UPerNet': Case(
        f'{_SEG}/upernet_vit_comer_tiny_512_160k_ade20k.py',
        f'vit_comer/vit-comer-t-deit_upernet_{_ADE}',
        *(SLIDE, SLIDE),
    ),
    'ViT-Adapter on small BEiT, Mask2Former': Case(
        f'{_SEG}/mask2former_beit_adapter_large_640_160k_ade20k_ss.py',
        'released/vit-adapter-l-beit_mask2former_8xb2-160k_ade20k-640x640',
        *small_mask2former(),
        sizes=((128, 128),),  # the released BEiT accepts one size only
    ),
    'ViT-Adapter-T, Mask R-CNN': Case(
        f'{_DET}/mask_rcnn/mask_rcnn_deit_adapter_tiny_fpn_3x_coco.py',
        f'released/vit-adapter-t-deit_mask-rcnn_{_COCO}',
    ),
    'ViT-CoMer-S on DINOv2, Mask R-CNN': Case(
        f'{_DET}/mask_rcnn/dinov2/mask_rcnn_dinov2_comer_small_fpn_3x_coco.py',
        f'released/vit-comer-s-dinov2_mask-rcnn_{_COCO}',
    ),
    'ViT-Adapter-S, Cascade Mask R-CNN': Case(
        f'{_DET}/cascade_rcnn/cascade_mask_rcnn_deit_adapter_small_fpn_3x_coco.py',
        f'vit_adapter/vit-adapter-s-deit_cascade-mask-rcnn_{_COCO}',
        *(_LOW_THRESHOLD, _LOW_THRESHOLD),
    ),
    'ViT-Adapter-S, ATSS': Case(
        f'{_DET}/atss/atss_deit_adapter_small_fpn_3x_coco.py',
        f'vit_adapter/vit-adapter-s-deit_atss_{_COCO}',
    ),
}


def images(case: Case) -> list[Tensor]:
    """Return batches of two: smooth patterns and noise of unit size, as if normalised."""
    generator = torch.Generator().manual_seed(1)
    out = []
    for height, width in case.sizes:
        coarse = torch.randn(2, 3, height // 8, width // 8, generator=generator)
        smooth = F.interpolate(coarse, size=(height, width), mode='bilinear')
        out.append(smooth + 0.3 * torch.randn(2, 3, height, width, generator=generator))
    return out


def original_size(image: Tensor) -> tuple[int, int]:
    """Return (height, width) of the image before resizing, to which results are scaled back."""
    return image.shape[-2] * 5 // 6, image.shape[-1] * 10 // 11


def regions(image: Tensor) -> Tensor:
    """Return (40, 5): image index and a box of any size and place, some beyond the edge."""
    generator = torch.Generator().manual_seed(2)
    height, width = image.shape[-2:]
    size = torch.tensor([width, height])
    centers = torch.rand(40, 2, generator=generator) * size
    halves = torch.rand(40, 2, generator=generator) ** 2 * size / 2
    indexes = torch.arange(40)[:, None] % len(image)
    return torch.cat((indexes.float(), centers - halves, centers + halves), dim=1)


def segmentation_outputs(model: nn.Module, maps: Any, metas: Any) -> dict[str, Any]:
    """Return the outputs of the heads on feature maps."""
    if hasattr(model.decode_head, 'query_feat'):
        classes, masks = model.decode_head(maps, metas)
        return {'classes': classes, 'masks': masks}
    return {head: getattr(model, head)(maps) for head in ('decode_head', 'auxiliary_head')}


def detection_outputs(model: nn.Module, maps: Any, image: Tensor, masks: str) -> dict[str, Any]:
    """Return the outputs of the heads on the neck's maps.

    Args:
        model: The detector.
        maps: Of the neck.
        image: The batch; the regions depend on its size.
        masks: Name under which the mask head returns its logits.
    """
    if not hasattr(model, 'roi_head'):
        return {'bbox_head': model.bbox_head(maps)}
    out: dict[str, Any] = {'rpn': model.rpn_head(maps)}
    head, boxes = model.roi_head, regions(image)
    stages = range(head.num_stages) if hasattr(head, 'num_stages') else [None]
    for stage in stages:
        first = () if stage is None else (stage,)
        boxed = head._bbox_forward(*first, maps, boxes)
        out[f'boxes {stage}'] = [boxed['cls_score'], boxed['bbox_pred']]
        out[f'masks {stage}'] = head._mask_forward(*first, maps, boxes)[masks]
    return out
