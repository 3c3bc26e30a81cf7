"""BEiT, BEiT v2 and EVA-02.

What they import and what does not run here has stand-ins: xformers' attention is torch's own, its
SwiGLU a module of the same two layers, apex's norm torch's.
"""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from layout_case import BESIDE, NORM, SMALL, Case, outputs, pixels, rectangle, set_weights, stand_in
from torch import Tensor, nn


def beit(checkout: Path, grid: int) -> Iterator[Case]:
    """BEiT and BEiT v2, by the folder's name."""
    sys.path.insert(0, str(checkout))
    finetune = importlib.import_module('modeling_finetune')
    pretrain = importlib.import_module('modeling_pretrain')
    project, vit = checkout.name, 'beit_base_patch16_224'
    for shape in ((grid, grid), rectangle(grid)):
        size, tag = pixels(shape), '' if shape[0] == shape[1] else ' rectangle'
        common = {**SMALL, 'img_size': size, 'patch_size': 16, 'mlp_ratio': 4, 'qkv_bias': True}
        common |= {'norm_layer': NORM, 'init_values': 0.1, 'use_abs_pos_emb': False}
        for pooled in (True, False):
            model = set_weights(
                finetune.VisionTransformer(
                    num_classes=10, use_rel_pos_bias=True, use_mean_pooling=pooled, **common
                )
            )
            state = model.state_dict()
            found = outputs(model, [size], norm=None if pooled else model.norm)
            ours = {**SMALL, 'img_size': size} | ({} if pooled else {'global_pool': 'token'})
            name = f'{project} finetuned{"" if pooled else ", cls token"}{tag}'
            yield Case(name, {'model': state, **BESIDE}, 'model', state, found, vit, ours)
        kinds = {'': pretrain.VisionTransformerForMaskedImageModeling}
        if project == 'beit2':
            head = pretrain.VisionTransformerForMaskedImageModelingCLS
            kinds[' with cls layers'] = partial(head, early_layers=1, head_layers=1)
        for kind, build in kinds.items():
            model = set_weights(build(vocab_size=32, use_shared_rel_pos_bias=True, **common))
            mask = torch.zeros(2, math.prod(shape), dtype=torch.bool)
            run = partial(model, bool_masked_pos=mask)
            state, found = model.state_dict(), outputs(model, [size], run=run, norm=model.norm)
            ours = {**SMALL, 'img_size': size, 'global_pool': 'token'}
            name = f'{project} pretrain{kind}{tag}'
            yield Case(name, {'model': state, **BESIDE}, 'model', state, found, vit, ours)


class GatedMlp(nn.Module):
    """The layers that xformers' SwiGLU has, by the same names."""

    def __init__(self, in_features: int, hidden_features: int) -> None:
        super().__init__()
        self.w12 = nn.Linear(in_features, 2 * hidden_features)
        self.w3 = nn.Linear(hidden_features, in_features)

    def forward(self, tokens: Tensor) -> Tensor:
        gate, values = self.w12(tokens).chunk(2, dim=-1)
        return self.w3(F.silu(gate) * values)


def attention(query: Tensor, key: Tensor, values: Tensor) -> Tensor:
    """On (B, N, heads, C), as xformers has it."""
    swapped = (tensor.transpose(1, 2) for tensor in (query, key, values))
    return F.scaled_dot_product_attention(*swapped).transpose(1, 2)


def eva02(checkout: Path, grid: int) -> Iterator[Case]:
    sys.path.insert(0, str(checkout))
    ops = stand_in('xformers.ops', memory_efficient_attention=attention, SwiGLU=GatedMlp)
    stand_in('xformers', ops=ops)
    stand_in('apex')
    stand_in('apex.normalization', FusedLayerNorm=nn.LayerNorm)
    finetune = importlib.import_module('modeling_finetune')
    pretrain = importlib.import_module('modeling_pretrain')
    size = pixels((grid, grid), 14)
    common = {**SMALL, 'img_size': size[0], 'patch_size': 14, 'mlp_ratio': 4 * 2 / 3}
    common |= {'qkv_bias': True, 'rope': True, 'norm_layer': NORM, 'xattn': True}
    kinds = {'base': {'naiveswiglu': True, 'subln': True}, 'tiny': {'swiglu': True}}
    for kind, extra in kinds.items():
        vit = f'eva02_{kind}_patch14_224'
        model = set_weights(
            pretrain.VisionTransformerForMaskedImageModeling(
                predict_feature_dim=16, **common, **extra
            )
        )
        run = partial(model, bool_masked_pos=torch.zeros(2, grid * grid, dtype=torch.bool))
        state, found = model.state_dict(), outputs(model, [size], run=run, norm=model.norm)
        # the rotation's own grid: that of the training, which timm takes to be 16x16
        ours = {**SMALL, 'img_size': size, 'global_pool': 'token', 'ref_feat_shape': (grid, grid)}
        content = {'module': state, 'optimizer': None, 'ds_version': '0.8'}
        yield Case(f'eva02 {kind} pretrain', content, 'module', state, found, vit, ours)
        settings = {'use_checkpoint': False, 'pt_hw_seq_len': 16, 'intp_freq': True}
        model = set_weights(
            finetune.VisionTransformer(num_classes=10, **settings, **common, **extra)
        )
        state, found = model.state_dict(), outputs(model, [size])
        content = {'module': state, 'model_ema': state}
        ours = {**SMALL, 'img_size': size}
        yield Case(f'eva02 {kind} finetuned', content, 'model_ema', state, found, vit, ours)
