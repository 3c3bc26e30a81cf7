"""ViTs of mmpretrain and mmseg, inside checkpoints of mmengine."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.parity.layouts.case import (
    DEPTH,
    HEADS,
    WIDTH,
    Case,
    Size,
    interpolation,
    make_case,
    pixels,
    rectangle,
    set_weights,
)

PLAIN, BEIT = 'vit_tiny_patch16_224', 'beit_base_patch16_224'
UNRESIZED, TOKEN = {'antialias': False}, {'global_pool': 'token'}
LN = {'type': 'LN', 'eps': 1e-6}
ARCH = {'embed_dims': WIDTH, 'num_layers': DEPTH, 'num_heads': HEADS}
CLASSIFIER = {'head.layers.head.weight': torch.ones(10, WIDTH)}
SEGMENTOR = {'decode_head.conv_seg.weight': torch.ones(5, WIDTH, 1, 1)}
BACKBONE: dict[str, Any] = {
    'root': 'backbone.',
    'fill': False,
    'section': 'state_dict',
    'content': {'meta': {'epoch': 3}, 'param_schedulers': []},
}


def openmmlab(name: str, model: Any, vit: str, sizes: list[Size], **more: Any) -> Case:
    """Describe a backbone inside a checkpoint of mmengine."""
    norm = getattr(model, 'ln1', None)
    set_weights(model, 'backbone.')
    if more.get('zero_keys'):
        for key, parameter in model.named_parameters():
            if key.endswith('qkv.bias'):
                parameter.data[WIDTH : 2 * WIDTH] = 0
    more = {'extra': CLASSIFIER, **BACKBONE, **more}
    return make_case(name, model, vit, sizes, last=model.layers[-1], norm=norm, **more)


def mmpretrain(checkout: Path | None, grid: int) -> Iterator[Case]:
    """Build those of the installed package; a checkout of EVA-02 (asuka) adds its EVA-02."""
    importlib.import_module('mmpretrain.models')
    registry = importlib.import_module('mmpretrain.registry').MODELS
    arch = {**ARCH, 'feedforward_channels': 4 * WIDTH}
    square = pixels((grid, grid))

    def build(kind: str, **kwargs: Any) -> Any:
        return registry.build({'type': kind, 'arch': arch, 'img_size': square[0], **kwargs})

    yield from mmpretrain_plain(build, grid)
    yield from mmpretrain_pretrained(build, grid)
    yield from mmpretrain_beits(build, grid)
    if checkout is not None:
        yield from mmpretrain_eva02(build, checkout, grid)


def mmpretrain_plain(build: Callable[..., Any], grid: int) -> Iterator[Case]:
    """Build supervised ViTs."""
    vit, mean = 'VisionTransformer', {'out_type': 'avg_featmap'}
    both = [pixels((grid, grid)), pixels(rectangle(grid))]
    resized = {'sizes': both[1:], 'options': UNRESIZED}
    yield openmmlab('mmpretrain vit resized', build(vit), PLAIN, **resized)
    clip = build(vit, pre_norm=True, norm_cfg={'type': 'LN', 'eps': 1e-5})
    no_cls = {'class_token': False, 'global_pool': 'avg', 'fc_norm': False}
    deit3 = build('DeiT3')
    # as in DeiT III; mmpretrain 1.2 applies the first norm twice
    type(deit3.layers[0]).forward = lambda self, x: self.ffn(
        self.ln2(attended := x + self.attn(self.ln1(x))), identity=attended
    )
    rows: list[tuple[str, Any, str, dict[str, Any]]] = [
        ('vit', build(vit), PLAIN, {}),
        ('clip', clip, 'vit_base_patch16_clip_224', {}),
        ('no cls token', build(vit, with_cls_token=False, **mean), PLAIN,
         {'kwargs': no_cls, 'tokens': 0}),
        ('mae finetuned', build(vit, final_norm=False, **mean), PLAIN, {}),
        ('deit distilled', build('DistilledVisionTransformer'), 'deit_tiny_distilled_patch16_224',
         {'tokens': 2}),
        ('deit3', deit3, 'deit3_small_patch16_224',
         {'note': 'positions: antialias, and the second norm as in DeiT III'}),
    ]  # fmt: skip
    with interpolation(antialias=True):
        for name, model, timm_name, more in rows:
            more = {'note': 'positions: antialias', **more}
            yield openmmlab(f'mmpretrain {name}', model, timm_name, both, **more)


def mmpretrain_pretrained(build: Callable[..., Any], grid: int) -> Iterator[Case]:
    """Build MAE and DINOv2."""
    model = build('MAEViT')
    neck = {'neck.mask_token': torch.ones(1, 1, 32), 'neck.decoder_pred.weight': torch.ones(9, 32)}
    masked = {'run': partial(model, mask=None), 'extra': neck}
    yield openmmlab('mmpretrain mae', model, PLAIN, [pixels((grid, grid))], **masked)
    sizes = [pixels((grid, grid), 14), pixels(rectangle(grid), 14)]
    patches = {'img_size': sizes[0][0], 'patch_size': 14}
    model = build('VisionTransformer', layer_scale_init_value=1e-5, **patches)
    with interpolation(antialias=True):
        more = {'extra': {}, 'note': 'positions: antialias'}
        yield openmmlab('mmpretrain dinov2', model, 'vit_small_patch14_dinov2', sizes, **more)


def mmpretrain_beits(build: Callable[..., Any], grid: int) -> Iterator[Case]:
    """Build BEiT and EVA."""
    square, rect = pixels((grid, grid)), pixels(rectangle(grid))
    build = partial(build, norm_cfg=LN)
    scaled = {'layer_scale_init_value': 0.1}
    mean = {'out_type': 'avg_featmap', 'final_norm': False}
    model = build('BEiTViT', out_type='cls_token', final_norm=True, **scaled)
    yield openmmlab('mmpretrain beit', model, BEIT, [square], kwargs=TOKEN)
    yield openmmlab('mmpretrain beit mean', build('BEiTViT', **mean, **scaled), BEIT, [square])
    model = build('BEiTViT', **mean, **scaled, img_size=rect)
    yield openmmlab('mmpretrain beit mean rectangle', model, BEIT, [rect])
    kind = {'use_abs_pos_emb': False, 'use_rel_pos_bias': False, 'use_shared_rel_pos_bias': True}
    pretrain = build('BEiTPretrainViT', **kind, **scaled)
    mask = torch.zeros(2, grid, grid, dtype=torch.bool)
    more = {'kwargs': TOKEN, 'run': lambda x: pretrain(x, mask)}
    yield openmmlab('mmpretrain beit pretrain', pretrain, BEIT, [square], **more)
    kind = {'use_abs_pos_emb': True, 'use_rel_pos_bias': False, 'layer_scale_init_value': 0.0}
    model, kwargs = build('BEiTViT', **mean, **kind), {'patch_size': 16, 'mlp_ratio': 4.0}
    yield openmmlab('mmpretrain eva', model, 'eva_giant_patch14_224', [square], kwargs=kwargs)


def mmpretrain_eva02(build: Callable[..., Any], checkout: Path, grid: int) -> Iterator[Case]:
    """Build EVA-02 with the authors' rotation, which converted files contain."""
    sys.path.insert(0, str(checkout))
    rotation = importlib.import_module('rope').VisionRotaryEmbeddingFast
    angles = rotation(dim=WIDTH // HEADS // 2, pt_seq_len=16, ft_seq_len=grid)
    size = pixels((grid, grid), 14)
    arch = {**ARCH, 'feedforward_channels': int(WIDTH * 4 * 2 / 3)}
    for kind, sub_ln in (('tiny', False), ('base', True)):
        for pooled in (True, False):
            model = build(
                'ViTEVA02', arch=arch, img_size=size[0], patch_size=14, sub_ln=sub_ln, norm_cfg=LN,
                final_norm=not pooled, out_type='avg_featmap' if pooled else 'cls_token',
            )  # fmt: skip
            model.rope.freqs_cos.copy_(angles.freqs_cos)
            model.rope.freqs_sin.copy_(angles.freqs_sin)
            yield openmmlab(
                f'mmpretrain eva02 {kind}{" mean" if pooled else ""}', model,
                f'eva02_{kind}_patch14_224', [size], kwargs={} if pooled else TOKEN, zero_keys=True,
                note="the authors' rotation and eps, no key bias, as in converted files",
            )  # fmt: skip


def mmseg(_: Path | None, grid: int) -> Iterator[Case]:
    """Build those of the installed package."""
    importlib.import_module('vit_dense.compat')
    importlib.import_module('mmseg.models')
    registry = importlib.import_module('mmseg.registry').MODELS
    square, rect = pixels((grid, grid)), pixels(rectangle(grid))

    def build(kind: str, **kwargs: Any) -> Any:
        return registry.build({'type': kind, 'img_size': square, 'norm_cfg': LN, **ARCH, **kwargs})

    case = partial(openmmlab, extra=SEGMENTOR)
    model = build('VisionTransformer', final_norm=True, interpolate_mode='bicubic')
    yield case('mmseg vit resized', model, PLAIN, [rect], options=UNRESIZED)
    with interpolation(antialias=True):
        note = 'positions: bicubic, antialias'
        yield case('mmseg vit', model, PLAIN, [square, rect], note=note)
    model = build('VisionTransformer', pre_norm=True, norm_cfg={'type': 'LN'})
    yield case('mmseg clip', model, 'vit_base_patch16_clip_224', [square])
    yield case('mmseg beit', build('BEiT', qv_bias=True, init_values=0.1), BEIT, [square])
    yield case('mmseg mae', build('MAE'), BEIT, [square], kwargs={'use_abs_pos_emb': True})
