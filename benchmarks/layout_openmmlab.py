"""ViTs of mmpretrain and mmseg, inside checkpoints of mmengine."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from layout_case import (
    DEPTH,
    HEADS,
    SMALL,
    WIDTH,
    Case,
    Size,
    interpolation,
    outputs,
    pixels,
    rectangle,
    set_weights,
)


def openmmlab(
    name: str, model: Any, vit: str, kwargs: dict[str, Any], sizes: list[Size], **more: Any
) -> Case:
    """A backbone inside a checkpoint of mmengine."""
    set_weights(model, 'backbone.')
    if more.get('zero_keys'):
        for key, parameter in model.named_parameters():
            if key.endswith('qkv.bias'):
                parameter.data[WIDTH : 2 * WIDTH] = 0
    norm = getattr(model, 'ln1', None)
    found = outputs(
        model,
        sizes,
        run=more.pop('run', None),
        last=model.layers[-1],
        norm=norm,
        prefix=more.pop('prefix', 1),
    )
    state = {f'backbone.{key}': tensor for key, tensor in model.state_dict().items()}
    beside = more.pop('beside', {'head.layers.head.weight': torch.ones(10, WIDTH)})
    content = {'meta': {'epoch': 3}, 'state_dict': state | beside, 'param_schedulers': []}
    return Case(name, content, 'state_dict', state, found, vit, kwargs, **more)


def mmpretrain(checkout: Path | None, grid: int) -> Iterator[Case]:
    """Of the installed package; a checkout of EVA-02 (asuka) adds its EVA-02."""
    importlib.import_module('mmpretrain.models')
    registry = importlib.import_module('mmpretrain.registry').MODELS
    arch = {'embed_dims': WIDTH, 'num_layers': DEPTH, 'num_heads': HEADS}
    arch['feedforward_channels'] = 4 * WIDTH
    square, rect = pixels((grid, grid)), pixels(rectangle(grid))
    ours = {**SMALL, 'img_size': square}
    plain, note = 'vit_tiny_patch16_224', 'positions: antialias'

    def build(kind: str, **kwargs: Any) -> Any:
        return registry.build({'type': kind, 'arch': arch, 'img_size': square[0], **kwargs})

    vit = 'VisionTransformer'
    mean = {'out_type': 'avg_featmap'}
    yield openmmlab(
        'mmpretrain vit resized', build(vit), plain, {**SMALL, 'img_size': rect}, [rect],
        options={'antialias': False},
    )  # fmt: skip
    clip = build(vit, pre_norm=True, norm_cfg={'type': 'LN', 'eps': 1e-5})
    no_cls = {**ours, 'class_token': False, 'global_pool': 'avg', 'fc_norm': False}
    second_norm = build('DeiT3')
    layer = type(second_norm.layers[0])
    # as DeiT III has it; mmpretrain 1.2 takes the first norm again
    layer.forward = lambda self, x: self.ffn(
        self.ln2(attended := x + self.attn(self.ln1(x))), identity=attended
    )
    both = [square, rect]
    with interpolation(antialias=True):
        yield openmmlab('mmpretrain vit', build(vit), plain, ours, both, note=note)
        yield openmmlab('mmpretrain clip', clip, 'vit_base_patch16_clip_224', ours, both, note=note)
        yield openmmlab(
            'mmpretrain no cls token', build(vit, with_cls_token=False, **mean), plain, no_cls,
            both, prefix=0, note=note,
        )  # fmt: skip
        yield openmmlab(
            'mmpretrain mae finetuned', build(vit, final_norm=False, **mean), plain, ours, both,
            note=note,
        )  # fmt: skip
        yield openmmlab(
            'mmpretrain deit distilled', build('DistilledVisionTransformer'),
            'deit_tiny_distilled_patch16_224', ours, both, prefix=2, note=note,
        )  # fmt: skip
        yield openmmlab(
            'mmpretrain deit3', second_norm, 'deit3_small_patch16_224', ours, both,
            note=note + ', and the second norm where DeiT III has it',
        )  # fmt: skip
    yield from mmpretrain_pretrained(build, grid)
    yield from mmpretrain_beits(build, grid)
    if checkout is not None:
        yield from mmpretrain_eva02(build, checkout, grid)


def mmpretrain_pretrained(build: Callable[..., Any], grid: int) -> Iterator[Case]:
    """MAE and DINOv2."""
    square = pixels((grid, grid))
    ours = {**SMALL, 'img_size': square}
    masked = build('MAEViT')
    neck = {'neck.mask_token': torch.ones(1, 1, 32), 'neck.decoder_pred.weight': torch.ones(9, 32)}
    yield openmmlab(
        'mmpretrain mae',
        masked,
        'vit_tiny_patch16_224',
        ours,
        [square],
        run=partial(masked, mask=None),
        beside=neck,
    )
    with interpolation(antialias=True):
        size = pixels((grid, grid), 14)
        model = build(
            'VisionTransformer', img_size=size[0], patch_size=14, layer_scale_init_value=1e-5
        )
        yield openmmlab(
            'mmpretrain dinov2', model, 'vit_small_patch14_dinov2', {**SMALL, 'img_size': size},
            [size, pixels(rectangle(grid), 14)], beside={}, note='positions: antialias',
        )  # fmt: skip


def mmpretrain_beits(build: Callable[..., Any], grid: int) -> Iterator[Case]:
    square, rect = pixels((grid, grid)), pixels(rectangle(grid))
    ours, vit = {**SMALL, 'img_size': square}, 'beit_base_patch16_224'
    common = {'layer_scale_init_value': 0.1, 'norm_cfg': {'type': 'LN', 'eps': 1e-6}}
    mean = {'out_type': 'avg_featmap', 'final_norm': False}
    token = {**ours, 'global_pool': 'token'}
    model = build('BEiTViT', out_type='cls_token', final_norm=True, **common)
    yield openmmlab('mmpretrain beit', model, vit, token, [square])
    yield openmmlab('mmpretrain beit mean', build('BEiTViT', **mean, **common), vit, ours, [square])
    model = build('BEiTViT', **{**common, **mean, 'img_size': rect})
    kwargs = {**SMALL, 'img_size': rect}
    yield openmmlab('mmpretrain beit mean rectangle', model, vit, kwargs, [rect])
    kind = {'use_abs_pos_emb': False, 'use_rel_pos_bias': False, 'use_shared_rel_pos_bias': True}
    model = build('BEiTPretrainViT', **kind, **common)
    mask = torch.zeros(2, grid, grid, dtype=torch.bool)
    yield openmmlab(
        'mmpretrain beit pretrain', model, vit, token, [square], run=lambda x: model(x, mask)
    )
    kind = {'use_abs_pos_emb': True, 'use_rel_pos_bias': False, 'layer_scale_init_value': 0.0}
    yield openmmlab(
        'mmpretrain eva', build('BEiTViT', **{**common, **mean, **kind}), 'eva_giant_patch14_224',
        {**ours, 'patch_size': 16, 'mlp_ratio': 4.0}, [square],
    )  # fmt: skip


def mmpretrain_eva02(build: Callable[..., Any], checkout: Path, grid: int) -> Iterator[Case]:
    """With the angles of the authors, which converted files carry along."""
    sys.path.insert(0, str(checkout))
    rotation = importlib.import_module('rope').VisionRotaryEmbeddingFast
    angles = rotation(dim=WIDTH // HEADS // 2, pt_seq_len=16, ft_seq_len=grid)
    size = pixels((grid, grid), 14)
    arch = {'embed_dims': WIDTH, 'num_layers': DEPTH, 'num_heads': HEADS}
    arch['feedforward_channels'] = int(WIDTH * 4 * 2 / 3)
    for kind, sub_ln in (('tiny', False), ('base', True)):
        for pooled in (True, False):
            how = 'avg_featmap' if pooled else 'cls_token'
            norm = {'type': 'LN', 'eps': 1e-6}
            model = build(
                'ViTEVA02', arch=arch, img_size=size[0], patch_size=14, sub_ln=sub_ln,
                final_norm=not pooled, out_type=how, norm_cfg=norm,
            )  # fmt: skip
            model.rope.freqs_cos.copy_(angles.freqs_cos)
            model.rope.freqs_sin.copy_(angles.freqs_sin)
            kwargs = {**SMALL, 'img_size': size} | ({} if pooled else {'global_pool': 'token'})
            yield openmmlab(
                f'mmpretrain eva02 {kind}{" mean" if pooled else ""}', model,
                f'eva02_{kind}_patch14_224', kwargs, [size], zero_keys=True,
                note="the authors' rotation and eps, no bias of keys, as in converted files",
            )  # fmt: skip


def mmseg(_: Path | None, grid: int) -> Iterator[Case]:
    importlib.import_module('vit_dense.compat')
    importlib.import_module('mmseg.models')
    registry = importlib.import_module('mmseg.registry').MODELS
    square, rect = pixels((grid, grid)), pixels(rectangle(grid))
    ours, plain = {**SMALL, 'img_size': square}, 'vit_tiny_patch16_224'
    head = {'decode_head.conv_seg.weight': torch.ones(5, WIDTH, 1, 1)}
    common = {'img_size': square, 'embed_dims': WIDTH, 'num_layers': DEPTH, 'num_heads': HEADS}
    common |= {'norm_cfg': {'type': 'LN', 'eps': 1e-6}}

    def build(kind: str, **kwargs: Any) -> Any:
        return registry.build({'type': kind, **common, **kwargs})

    bicubic = {'interpolate_mode': 'bicubic'}
    model = build('VisionTransformer', final_norm=True, **bicubic)
    yield openmmlab(
        'mmseg vit resized', model, plain, {**SMALL, 'img_size': rect}, [rect], beside=head,
        options={'antialias': False},
    )  # fmt: skip
    with interpolation(antialias=True):
        yield openmmlab(
            'mmseg vit', model, plain, ours, [square, rect], beside=head,
            note='positions: bicubic, antialias',
        )  # fmt: skip
    model = build('VisionTransformer', pre_norm=True, norm_cfg={'type': 'LN'})
    yield openmmlab('mmseg clip', model, 'vit_base_patch16_clip_224', ours, [square], beside=head)
    name = 'beit_base_patch16_224'
    model = build('BEiT', qv_bias=True, init_values=0.1)
    yield openmmlab('mmseg beit', model, name, ours, [square], beside=head)
    kwargs = {**ours, 'use_abs_pos_emb': True}
    yield openmmlab('mmseg mae', build('MAE'), name, kwargs, [square], beside=head)
