"""ViTs with attention windows: Segment Anything and detectron2's ViTDet."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.parity.common import stub_module
from benchmarks.parity.layouts.case import NORM, SMALL, Case, make_case, pixels

VIT, NOTE = 'samvit_base_patch16', "eps 1e-6, timm's is 1e-5"
COMMON: dict[str, Any] = {
    'patch_size': 16,
    'norm_layer': NORM,
    'use_rel_pos': True,
    'window_size': 5,
    **SMALL,
}
KWARGS: dict[str, Any] = {'window_size': 5, 'global_attn_indexes': (1,)}


def sam(checkout: Path, grid: int) -> Iterator[Case]:
    """Build the image encoder of Segment Anything."""
    stub_module('segment_anything', checkout / 'segment_anything')
    encoder = importlib.import_module('segment_anything.modeling.image_encoder')
    size = pixels((grid, grid))
    model = encoder.ImageEncoderViT(
        img_size=size[0], out_chans=16, global_attn_indexes=(1,), **COMMON
    )
    yield make_case(
        'sam', model, VIT, [size], root='image_encoder.', section='', tokens=0, note=NOTE,
        extra={'mask_decoder.iou_token.weight': torch.ones(1, 16)},
        kwargs={**KWARGS, 'neck_chans': 16},
    )  # fmt: skip


def detectron2(checkout: Path, grid: int) -> Iterator[Case]:
    """Build ViTDet's backbone, without building the library."""
    for name in ('fvcore', 'detectron2', 'detectron2.modeling'):
        stub_module(name)
    stub_module('fvcore.nn', weight_init=stub_module('fvcore.nn.weight_init'))
    stub_module('detectron2.layers', CNNBlockBase=nn.Module, Conv2d=nn.Conv2d, get_norm=None)
    package = 'detectron2.modeling.backbone'
    stub_module(package, checkout / 'detectron2/modeling/backbone')
    stub_module(f'{package}.fpn', _assert_strides_are_log2_contiguous=None)
    stub_module(f'{package}.backbone', Backbone=nn.Module)
    module = importlib.import_module(f'{package}.vit')
    size = pixels((grid, grid))
    for name, old in (('', size[0]), (' resized', size[0] // 2)):
        model = module.ViT(
            img_size=size[0], rel_pos_zero_init=False, window_block_indexes=[0],
            pretrain_img_size=old, **COMMON,
        )  # fmt: skip
        yield make_case(
            f'detectron2 vitdet{name}', model, VIT, [size], root='backbone.net.', tokens=0,
            extra={'backbone.simfp_2.0.bias': torch.ones(2)}, content={'iteration': 9},
            kwargs=KWARGS, options={'antialias': False} if name else {}, note=NOTE,
        )  # fmt: skip
