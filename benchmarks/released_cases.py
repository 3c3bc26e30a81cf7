"""The released models that `released_models.py` compares, and what they are shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

SLIDE = {'mode': 'slide', 'crop_size': (128, 128), 'stride': (85, 85)}


@dataclass(frozen=True)
class Case:
    """One released model.

    Attributes:
        config: of the release, in its checkout.
        leaf: ours.
        theirs, ours: changes to both models, by dotted names.
        sizes: (height, width) of the images.
    """

    config: str
    leaf: str
    theirs: dict[str, Any] = field(default_factory=dict)
    ours: dict[str, Any] = field(default_factory=dict)
    sizes: tuple[tuple[int, int], ...] = ((128, 192), (224, 160))

    @property
    def task(self) -> str:
        """'segmentation' or 'detection'."""
        return self.config.split('/')[0]


def thin_mask2former() -> tuple[dict[str, Any], dict[str, Any]]:
    """Mask2Former on BEiT of four blocks, 64 wide: in the release's terms and in ours."""
    backbone = {
        'img_size': 128,
        'embed_dim': 64,
        'depth': 4,
        'num_heads': 4,
        'deform_num_heads': 4,
        'with_cp': False,
        'interaction_indexes': [[i, i] for i in range(4)],
    }
    wide, inner = {'embed_dims': 64, 'num_heads': 4}, {'embed_dims': 64}
    inner |= {'feedforward_channels': 256}
    head = {'in_channels': [64] * 4, 'feat_channels': 64, 'out_channels': 64, 'num_queries': 20}
    head |= {'positional_encoding': {'num_feats': 32}}
    pixels = {'positional_encoding': {'num_feats': 32}}
    old = {'attn_cfgs': wide, 'ffn_cfgs': inner}
    theirs = head | {
        'pixel_decoder': pixels | {'encoder': {'num_layers': 3, 'transformerlayers': old}},
        'transformer_decoder': {
            'num_layers': 4,
            'transformerlayers': old | {'feedforward_channels': 256},
        },
    }
    layer = {'self_attn_cfg': wide, 'ffn_cfg': inner}
    ours = head | {
        'pixel_decoder': pixels | {'encoder': {'num_layers': 3, 'layer_cfg': layer}},
        'transformer_decoder': {
            'num_layers': 4,
            'layer_cfg': layer | {'cross_attn_cfg': wide},
        },
    }
    vit = {'model_kwargs': {'img_size': 128, 'embed_dim': 64, 'depth': 4, 'num_heads': 4}}
    return (
        {'backbone': backbone, 'decode_head': theirs, 'test_cfg': SLIDE},
        {
            'backbone': {'vit': vit, 'deform_num_heads': 4},
            'decode_head': ours,
            'test_cfg': SLIDE,
        },
    )


_SEG, _DET = 'segmentation/configs/ade20k', 'detection/configs'
_ADE, _COCO = '8xb2-160k_ade20k-512x512', '8xb2-3x_coco'
_THIN = thin_mask2former()
# The mean of three random classifiers passes no threshold of use.
_UNSURE = {'test_cfg': {'rcnn': {'score_thr': 0.02}}}
CASES = {
    'ViT-Adapter-T, UPerNet': Case(
        f'{_SEG}/upernet_deit_adapter_tiny_512_160k_ade20k.py',
        f'vit_adapter/vit-adapter-t-deit_upernet_{_ADE}',
        {'test_cfg': SLIDE},
        {'test_cfg': SLIDE},
    ),
    'ViT-CoMer-T, UPerNet': Case(
        f'{_SEG}/upernet_vit_comer_tiny_512_160k_ade20k.py',
        f'vit_comer/vit-comer-t-deit_upernet_{_ADE}',
        {'test_cfg': SLIDE},
        {'test_cfg': SLIDE},
    ),
    'ViT-Adapter on BEiT, thinned, Mask2Former': Case(
        f'{_SEG}/mask2former_beit_adapter_large_640_160k_ade20k_ss.py',
        'released/vit-adapter-l-beit_mask2former_8xb2-160k_ade20k-640x640',
        *_THIN,
        sizes=((128, 128),),  # the released BEiT runs its own size alone
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
        _UNSURE,
        _UNSURE,
    ),
    'ViT-Adapter-S, ATSS': Case(
        f'{_DET}/atss/atss_deit_adapter_small_fpn_3x_coco.py',
        f'vit_adapter/vit-adapter-s-deit_atss_{_COCO}',
    ),
}


def images(case: Case) -> list[Tensor]:
    """Batches of two: blots and noise of unit size, as normalisation leaves them."""
    generator = torch.Generator().manual_seed(1)
    out = []
    for height, width in case.sizes:
        coarse = torch.randn(2, 3, height // 8, width // 8, generator=generator)
        blots = F.interpolate(coarse, size=(height, width), mode='bilinear')
        out.append(blots + 0.3 * torch.randn(2, 3, height, width, generator=generator))
    return out


def original_size(image: Tensor) -> tuple[int, int]:
    """(height, width) before an enlargement by which results are to be scaled back."""
    return image.shape[-2] * 5 // 6, image.shape[-1] * 10 // 11


def regions(image: Tensor) -> Tensor:
    """(40, 5): number of the image and a box of any size and place, some beyond the edge."""
    generator = torch.Generator().manual_seed(2)
    height, width = image.shape[-2:]
    size = torch.tensor([width, height])
    centres = torch.rand(40, 2, generator=generator) * size
    halves = torch.rand(40, 2, generator=generator) ** 2 * size / 2
    numbers = torch.arange(40)[:, None] % len(image)
    return torch.cat((numbers.float(), centres - halves, centres + halves), dim=1)
