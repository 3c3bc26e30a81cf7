"""ViTs of Meta's projects: DeiT, MAE, DINO, DINOv2."""

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

from benchmarks.parity.common import stub_module
from benchmarks.parity.layouts.case import (
    NORM,
    SMALL,
    TRAINING,
    WIDTH,
    Case,
    both_shapes,
    interpolation,
    make_case,
    pixels,
    rectangle,
    set_weights,
)

TINY, UNRESIZED = 'vit_tiny_patch16_224', {'antialias': False}
COMMON = {**SMALL, 'patch_size': 16, 'qkv_bias': True, 'norm_layer': NORM, 'mlp_ratio': 4}


def import_with_old_timm(checkout: Path, *names: str) -> list[Any]:
    """Import modules written for timm 0.3.2, which needs a module that torch no longer has.

    Raises:
        RuntimeError: Another timm is installed.
    """
    stub_module('torch._six', container_abcs=collections.abc, int_classes=int)
    sys.path.insert(0, str(checkout))
    version = importlib.import_module('timm').__version__
    if version != '0.3.2':
        raise RuntimeError(f'{checkout} needs timm 0.3.2 on PYTHONPATH, found {version}')
    return [importlib.import_module(name) for name in names]


def deit(checkout: Path, grid: int) -> Iterator[Case]:
    """Build DeiT, with averaged weights, distilled DeiT and DeiT III."""
    models, models3 = import_with_old_timm(checkout, 'models', 'models_v2')
    for size, tag in both_shapes(grid):
        common = {**COMMON, 'img_size': size, 'num_classes': 10}
        model, last = (models.VisionTransformer(**common) for _ in range(2))
        content = {'model': last.state_dict(), **TRAINING}
        yield make_case(
            f'deit{tag}', model, TINY, [size], norm=model.norm, section='model_ema', content=content
        )
        model = models.DistilledVisionTransformer(**common)
        vit = 'deit_tiny_distilled_patch16_224'
        yield make_case(f'deit distilled{tag}', model, vit, [size], norm=model.norm, tokens=2)
        model = models3.vit_models(**common, block_layers=models3.Layer_scale_init_Block)
        yield make_case(f'deit3{tag}', model, 'deit3_small_patch16_224', [size], norm=model.norm)


def mae(checkout: Path, grid: int) -> Iterator[Case]:
    """Build MAE: pre-training, resized by its own function, and fine-tuned."""
    import numpy as np

    np.float = float  # type: ignore[attr-defined]
    names = ('models_mae', 'models_vit', 'util.pos_embed')
    models_mae, models_vit, pos_embed = import_with_old_timm(checkout, *names)
    size, large = pixels((grid, grid)), pixels((grid + 4, grid + 4))
    decoder = {'decoder_embed_dim': 32, 'decoder_depth': 1, 'decoder_num_heads': 2}
    pretrain = models_mae.MaskedAutoencoderViT(
        img_size=size[0], patch_size=16, norm_layer=NORM, **SMALL, **decoder
    )
    draw = torch.rand  # the noise that orders the patches: ascending, so that they keep their order
    torch.rand = lambda n, count, device=None: torch.arange(count).float().expand(n, count)
    yield make_case(
        'mae pretrain',
        pretrain,
        TINY,
        [size],
        run=lambda x: pretrain.forward_encoder(x, 0.0),
        norm=pretrain.norm,
        content=TRAINING,
    )
    torch.rand = draw

    common = {**COMMON, 'num_classes': 10}
    model = models_vit.VisionTransformer(img_size=large, **common).eval()
    state = pretrain.state_dict()
    resized = {key: tensor.clone() for key, tensor in state.items()}
    pos_embed.interpolate_pos_embed(model, resized)
    model.load_state_dict(resized, strict=False)
    case = make_case(
        'mae resized', model, TINY, [large], norm=model.norm, fill=False, options=UNRESIZED
    )
    case.content, case.state = {'model': state, **TRAINING}, state
    yield case

    for size, tag in both_shapes(grid):
        model = models_vit.VisionTransformer(global_pool=True, img_size=size, **common)
        yield make_case(f'mae finetuned{tag}', model, TINY, [size], content=TRAINING)


def dino(checkout: Path, grid: int) -> Iterator[Case]:
    """Build DINO: a training checkpoint, and the backbone alone."""
    sys.path.insert(0, str(checkout))
    vits, utils = importlib.import_module('vision_transformer'), importlib.import_module('utils')
    size = pixels((grid, grid))

    def build() -> Any:
        backbone = vits.VisionTransformer(img_size=[size[0]], **COMMON)
        head = vits.DINOHead(WIDTH, 64, norm_last_layer=True, hidden_dim=32, bottleneck_dim=16)
        return utils.MultiCropWrapper(backbone, head)

    teacher, student = set_weights(build()), build()
    model = teacher.backbone
    doubled = {f'module.{key}': tensor for key, tensor in student.state_dict().items()}
    content = {'student': doubled, **TRAINING, 'dino_loss': {'center': torch.zeros(1, 64)}}
    case = partial(
        make_case,
        vit='vit_small_patch16_224',
        sizes=[size, pixels(rectangle(grid))],
        norm=model.norm,
        note='positions: antialias, and the exact size instead of a scale',
    )
    with interpolation(antialias=True):
        training = {
            'section': 'teacher',
            'content': content,
            'run': model,
            'last': model.blocks[-1],
        }
        yield case('dino training', teacher, fill=False, **training)
        yield case('dino backbone', model, section='')


def dinov2(checkout: Path, grid: int) -> Iterator[Case]:
    """Build DINOv2: plain, with registers, SwiGLU, grouped blocks, and its own resizing."""
    os.environ['XFORMERS_DISABLED'] = '1'
    sys.path.insert(0, str(checkout))
    module = importlib.import_module('dinov2.models.vision_transformer')
    block = partial(module.Block, attn_class=module.MemEffAttention)
    square, rect = pixels((grid, grid), 14), pixels(rectangle(grid), 14)
    plain, registers = 'vit_small_patch14_dinov2', 'vit_small_patch14_reg4_dinov2'
    four, groups = {'depth': 4}, {'depth': 4, 'block_chunks': 2}
    rows: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
        ('dinov2', {}, plain, {}),
        ('dinov2 registers', {'num_register_tokens': 4}, registers, {}),
        # timm's ratio for SwiGLU counts both halves
        ('dinov2 swiglu', {'ffn_layer': 'swiglufused'}, 'vit_giant_patch14_dinov2',
         {'mlp_ratio': 5.334}),
        ('dinov2 grouped blocks', groups, plain, four),
        ('dinov2 grouped, registers', {**groups, 'num_register_tokens': 4}, registers, four),
        ('dinov2 resized', {'interpolate_antialias': False}, plain, {'img_size': rect}),
    ]  # fmt: skip
    for name, extra, vit, kwargs in rows:
        arguments = {**SMALL, 'img_size': square[0], 'patch_size': 14, 'block_chunks': 0}
        arguments |= {'init_values': 1e-5, 'block_fn': block, 'interpolate_antialias': True}
        model = module.DinoVisionTransformer(**{**arguments, 'interpolate_offset': 0, **extra})
        more: dict[str, Any] = {'section': '', 'note': 'positions: offset 0, antialias'}
        if name == 'dinov2 resized':
            more |= {'options': UNRESIZED, 'note': 'positions: offset 0'}
        elif 'grouped' in name:
            heads = ('dino_head.mlp.0.weight', 'ibot_head.mlp.0.weight')
            more |= {'extra': {head: torch.ones(8, WIDTH) for head in heads}}
            more |= {'root': 'backbone.', 'section': 'teacher', 'last': model.blocks[-1][-1]}
        sizes = [rect] if name == 'dinov2 resized' else [square, rect]
        tokens = 1 + model.num_register_tokens
        yield make_case(
            name, model, vit, sizes, kwargs=kwargs, norm=model.norm, tokens=tokens, **more
        )
