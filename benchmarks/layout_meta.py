"""ViTs of Meta's projects: DeiT, MAE, DINO, DINOv2, Segment Anything, detectron2's ViTDet."""

from __future__ import annotations

import collections.abc
import importlib
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from layout_case import (
    BESIDE,
    NORM,
    SMALL,
    WIDTH,
    Case,
    interpolation,
    outputs,
    pixels,
    rectangle,
    set_weights,
    stand_in,
)
from torch import nn


def needs_old_timm(checkout: Path) -> None:
    """timm 0.3.2, for which DeiT and MAE were written, needs a module that torch no longer has."""
    stand_in('torch._six', container_abcs=collections.abc, int_classes=int)
    sys.path.insert(0, str(checkout))
    version = importlib.import_module('timm').__version__
    if version != '0.3.2':
        raise RuntimeError(f'{checkout} needs timm 0.3.2 on PYTHONPATH, found {version}')


def deit(checkout: Path, grid: int) -> Iterator[Case]:
    needs_old_timm(checkout)
    models, models3 = importlib.import_module('models'), importlib.import_module('models_v2')
    for shape in ((grid, grid), rectangle(grid)):
        size, tag = pixels(shape), '' if shape[0] == shape[1] else ' rectangle'
        common = {**SMALL, 'patch_size': 16, 'qkv_bias': True, 'norm_layer': NORM}
        common |= {'img_size': size, 'mlp_ratio': 4, 'num_classes': 10}
        ours = {**SMALL, 'img_size': size}
        last = models.VisionTransformer(**common)
        average = set_weights(models.VisionTransformer(**common))
        content = {'model': last.state_dict(), 'model_ema': average.state_dict(), **BESIDE}
        found = outputs(average, [size], norm=average.norm)
        state = average.state_dict()
        yield Case(f'deit{tag}', content, 'model_ema', state, found, 'vit_tiny_patch16_224', ours)
        model = set_weights(models.DistilledVisionTransformer(**common))
        state, found = model.state_dict(), outputs(model, [size], norm=model.norm, prefix=2)
        name = 'deit_tiny_distilled_patch16_224'
        yield Case(f'deit distilled{tag}', {'model': state}, 'model', state, found, name, ours)
        block = models3.Layer_scale_init_Block
        model = set_weights(models3.vit_models(**common, block_layers=block))
        state, found = model.state_dict(), outputs(model, [size], norm=model.norm)
        name = 'deit3_small_patch16_224'
        yield Case(f'deit3{tag}', {'model': state}, 'model', state, found, name, ours)


def mae(checkout: Path, grid: int) -> Iterator[Case]:
    import numpy as np

    np.float = float  # type: ignore[attr-defined]
    needs_old_timm(checkout)
    models_mae = importlib.import_module('models_mae')
    models_vit = importlib.import_module('models_vit')
    resize = importlib.import_module('util.pos_embed').interpolate_pos_embed
    size, name = pixels((grid, grid)), 'vit_tiny_patch16_224'
    decoder = {'decoder_embed_dim': 32, 'decoder_depth': 1, 'decoder_num_heads': 2}
    model = set_weights(
        models_mae.MaskedAutoencoderViT(
            img_size=size[0], patch_size=16, norm_layer=NORM, **SMALL, **decoder
        )
    )
    state = model.state_dict()
    content = {'model': state, **BESIDE}
    draw = torch.rand  # the noise that orders the patches: ascending, so that they stay in place
    torch.rand = lambda n, count, device=None: torch.arange(count).float().expand(n, count)
    found = outputs(model, [size], run=lambda x: model.forward_encoder(x, 0.0), norm=model.norm)
    torch.rand = draw
    yield Case('mae pretrain', content, 'model', state, found, name, {**SMALL, 'img_size': size})

    large = pixels((grid + 4, grid + 4))
    common = {**SMALL, 'patch_size': 16, 'qkv_bias': True, 'norm_layer': NORM, 'num_classes': 10}
    model = models_vit.VisionTransformer(img_size=large, mlp_ratio=4, **common).eval()
    resized = {key: tensor.clone() for key, tensor in state.items()}
    resize(model, resized)
    model.load_state_dict(resized, strict=False)
    found = outputs(model, [large], norm=model.norm)
    ours = {**SMALL, 'img_size': large}
    yield Case('mae resized', content, 'model', state, found, name, ours, {'antialias': False})

    for shape in ((grid, grid), rectangle(grid)):
        size, tag = pixels(shape), '' if shape[0] == shape[1] else ' rectangle'
        model = models_vit.VisionTransformer(global_pool=True, img_size=size, mlp_ratio=4, **common)
        state, found = set_weights(model).state_dict(), outputs(model, [size])
        ours = {**SMALL, 'img_size': size}
        content = {'model': state, **BESIDE}
        yield Case(f'mae finetuned{tag}', content, 'model', state, found, name, ours)


def dino(checkout: Path, grid: int) -> Iterator[Case]:
    sys.path.insert(0, str(checkout))
    vits, utils = importlib.import_module('vision_transformer'), importlib.import_module('utils')
    size = pixels((grid, grid))

    def build() -> Any:
        common = {**SMALL, 'patch_size': 16, 'qkv_bias': True, 'norm_layer': NORM}
        backbone = vits.VisionTransformer(img_size=[size[0]], mlp_ratio=4, **common)
        head = vits.DINOHead(WIDTH, 64, norm_last_layer=True, hidden_dim=32, bottleneck_dim=16)
        return utils.MultiCropWrapper(backbone, head)

    teacher, student = set_weights(build()), build()
    sizes = [size, pixels(rectangle(grid))]
    ours = {**SMALL, 'img_size': size}
    note = 'positions: antialias, and the exact size instead of a scale'
    for name in ('dino training', 'dino backbone'):
        model = teacher.backbone
        if name == 'dino training':
            state = teacher.state_dict()
            doubled = {f'module.{key}': t for key, t in student.state_dict().items()}
            content: dict[str, Any] = {'student': doubled, 'teacher': state, **BESIDE}
            content['dino_loss'] = {'center': torch.zeros(1, 64)}
        else:
            state = content = set_weights(model).state_dict()
        section = 'teacher' if name == 'dino training' else ''
        with interpolation(antialias=True):
            found = outputs(model, sizes, norm=model.norm)
        yield Case(name, content, section, state, found, 'vit_small_patch16_224', ours, note=note)


def dinov2(checkout: Path, grid: int) -> Iterator[Case]:
    os.environ['XFORMERS_DISABLED'] = '1'
    sys.path.insert(0, str(checkout))
    module = importlib.import_module('dinov2.models.vision_transformer')
    block = partial(module.Block, attn_class=module.MemEffAttention)
    square, rect = pixels((grid, grid), 14), pixels(rectangle(grid), 14)
    plain, registers = 'vit_small_patch14_dinov2', 'vit_small_patch14_reg4_dinov2'
    four, groups = {'depth': 4}, {'depth': 4, 'block_chunks': 2}
    resized = {'interpolate_antialias': False}
    # timm's ratio for SwiGLU counts both halves
    gated = {'mlp_ratio': 5.334}
    rows: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
        ('dinov2', {}, plain, {}),
        ('dinov2 registers', {'num_register_tokens': 4}, registers, {}),
        ('dinov2 swiglu', {'ffn_layer': 'swiglufused'}, 'vit_giant_patch14_dinov2', gated),
        ('dinov2 grouped blocks', groups, plain, four),
        ('dinov2 grouped, registers', {**groups, 'num_register_tokens': 4}, registers, four),
        ('dinov2 resized', resized, plain, {'img_size': rect}),
    ]
    for name, extra, vit, kwargs in rows:
        arguments = {**SMALL, 'img_size': square[0], 'patch_size': 14, 'block_chunks': 0}
        arguments |= {'init_values': 1e-5, 'block_fn': block, 'interpolate_antialias': True}
        model = module.DinoVisionTransformer(**{**arguments, 'interpolate_offset': 0, **extra})
        grouped = 'grouped' in name
        where = 'backbone.' if grouped else ''
        set_weights(model, where)
        state = {where + key: tensor for key, tensor in model.state_dict().items()}
        heads = {
            f'{head}.mlp.0.weight': torch.ones(8, WIDTH) for head in ('dino_head', 'ibot_head')
        }
        content = {'teacher': state | heads} if grouped else state
        found = outputs(
            model,
            [rect] if name == 'dinov2 resized' else [square, rect],
            last=model.blocks[-1][-1] if grouped else None,
            norm=model.norm,
            prefix=1 + model.num_register_tokens,
        )
        yield Case(
            name,
            content,
            'teacher' if grouped else '',
            state,
            found,
            vit,
            {**SMALL, 'img_size': square, **kwargs},
            {'antialias': False} if name == 'dinov2 resized' else {},
            note='positions: offset 0' + ('' if name == 'dinov2 resized' else ', antialias'),
        )


def sam(checkout: Path, grid: int) -> Iterator[Case]:
    folder = checkout / 'segment_anything'
    stand_in('segment_anything').__path__ = [str(folder)]
    encoder = importlib.import_module('segment_anything.modeling.image_encoder')
    size = pixels((grid, grid))
    model = encoder.ImageEncoderViT(
        img_size=size[0], patch_size=16, out_chans=16, norm_layer=NORM, use_rel_pos=True,
        window_size=5, global_attn_indexes=(1,), **SMALL,
    )  # fmt: skip
    set_weights(model, 'image_encoder.')
    found = outputs(model, [size], prefix=0)
    state = {f'image_encoder.{key}': tensor for key, tensor in model.state_dict().items()}
    content = state | {'mask_decoder.iou_token.weight': torch.ones(1, 16)}
    kwargs = {**SMALL, 'img_size': size, 'window_size': 5, 'global_attn_indexes': (1,)}
    kwargs['neck_chans'] = 16
    note = "eps 1e-6, timm's is 1e-5"
    yield Case('sam', content, '', state, found, 'samvit_base_patch16', kwargs, note=note)


def detectron2(checkout: Path, grid: int) -> Iterator[Case]:
    """ViTDet's backbone, without building the library."""
    for name in ('fvcore', 'fvcore.nn', 'fvcore.nn.weight_init', 'detectron2'):
        stand_in(name)
    sys.modules['fvcore.nn'].__dict__['weight_init'] = sys.modules['fvcore.nn.weight_init']
    stand_in('detectron2.layers', CNNBlockBase=nn.Module, Conv2d=nn.Conv2d, get_norm=None)
    stand_in('detectron2.modeling')
    package = 'detectron2.modeling.backbone'
    stand_in(package).__path__ = [str(checkout / 'detectron2/modeling/backbone')]
    stand_in(f'{package}.fpn', _assert_strides_are_log2_contiguous=None)
    stand_in(f'{package}.backbone', Backbone=nn.Module)
    module = importlib.import_module(f'{package}.vit')
    size = pixels((grid, grid))
    kwargs = {**SMALL, 'img_size': size, 'window_size': 5, 'global_attn_indexes': (1,)}
    note = "eps 1e-6, timm's is 1e-5"
    for name, old in (('', size[0]), (' resized', size[0] // 2)):
        model = module.ViT(
            img_size=size[0], patch_size=16, norm_layer=NORM, use_rel_pos=True,
            rel_pos_zero_init=False, window_size=5, window_block_indexes=[0],
            pretrain_img_size=old, **SMALL,
        )  # fmt: skip
        set_weights(model, 'backbone.net.')
        found = outputs(model, [size], prefix=0)
        state = {f'backbone.net.{key}': tensor for key, tensor in model.state_dict().items()}
        content = {'model': state | {'backbone.simfp_2.0.bias': torch.ones(2)}, 'iteration': 9}
        yield Case(
            f'detectron2 vitdet{name}', content, 'model', state, found, 'samvit_base_patch16',
            kwargs, {'antialias': False} if name else {}, note=note,
        )  # fmt: skip
