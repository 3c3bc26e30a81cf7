"""BEiT, BEiT v2 and EVA-02.

Stubs stand for what they import and is not installed: xformers' attention is torch's own, its
SwiGLU a module of the same two layers, apex's norm torch's.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.parity.common import stub_module
from benchmarks.parity.layouts.case import (
    NORM,
    SMALL,
    TRAINING,
    Case,
    both_shapes,
    make_case,
    pixels,
)

TOKEN = {'global_pool': 'token'}


def import_models(checkout: Path) -> tuple[Any, Any]:
    """Import a project's modules for fine-tuning and for pre-training."""
    sys.path.insert(0, str(checkout))
    finetune = importlib.import_module('modeling_finetune')
    return finetune, importlib.import_module('modeling_pretrain')


def masked(model: Any, size: tuple[int, int], patch: int) -> Any:
    """Return a pre-training model's forward, with no patch masked."""
    patches = (size[0] // patch) * (size[1] // patch)
    return partial(model, bool_masked_pos=torch.zeros(2, patches, dtype=torch.bool))


def beit(checkout: Path, grid: int) -> Iterator[Case]:
    """Build BEiT or BEiT v2, depending on the folder's name."""
    finetune, pretrain = import_models(checkout)
    project, vit = checkout.name, 'beit_base_patch16_224'
    kinds = {'': pretrain.VisionTransformerForMaskedImageModeling}
    if project == 'beit2':
        head = pretrain.VisionTransformerForMaskedImageModelingCLS
        kinds[' with cls layers'] = partial(head, early_layers=1, head_layers=1)
    for size, tag in both_shapes(grid):
        common = {**SMALL, 'img_size': size, 'patch_size': 16, 'mlp_ratio': 4, 'qkv_bias': True}
        common |= {'norm_layer': NORM, 'init_values': 0.1, 'use_abs_pos_emb': False}
        build = partial(finetune.VisionTransformer, num_classes=10, use_rel_pos_bias=True)
        case = partial(make_case, vit=vit, sizes=[size], content=TRAINING)
        yield case(f'{project} finetuned{tag}', build(use_mean_pooling=True, **common))
        model = build(use_mean_pooling=False, **common)
        yield case(f'{project} finetuned, cls token{tag}', model, norm=model.norm, kwargs=TOKEN)
        for kind, build in kinds.items():
            model = build(vocab_size=32, use_shared_rel_pos_bias=True, **common)
            run, name = masked(model, size, 16), f'{project} pretrain{kind}{tag}'
            yield case(name, model, run=run, norm=model.norm, kwargs=TOKEN)


class GatedMlp(nn.Module):
    """The layers of xformers' SwiGLU, under the same names."""

    def __init__(self, in_features: int, hidden_features: int) -> None:
        super().__init__()
        self.w12 = nn.Linear(in_features, 2 * hidden_features)
        self.w3 = nn.Linear(hidden_features, in_features)

    def forward(self, tokens: Tensor) -> Tensor:
        """Apply the gated MLP."""
        gate, values = self.w12(tokens).chunk(2, dim=-1)
        return self.w3(F.silu(gate) * values)


def attention(query: Tensor, key: Tensor, values: Tensor) -> Tensor:
    """Attend on (B, N, heads, C), xformers' order."""
    swapped = (tensor.transpose(1, 2) for tensor in (query, key, values))
    return F.scaled_dot_product_attention(*swapped).transpose(1, 2)


def eva02(checkout: Path, grid: int) -> Iterator[Case]:
    """Build EVA-02 base and tiny, pre-training and fine-tuned."""
    ops = stub_module('xformers.ops', memory_efficient_attention=attention, SwiGLU=GatedMlp)
    stub_module('xformers', ops=ops)
    stub_module('apex')
    stub_module('apex.normalization', FusedLayerNorm=nn.LayerNorm)
    finetune, pretrain = import_models(checkout)
    size = pixels((grid, grid), 14)
    common = {**SMALL, 'img_size': size[0], 'patch_size': 14, 'mlp_ratio': 4 * 2 / 3}
    common |= {'qkv_bias': True, 'rope': True, 'norm_layer': NORM, 'xattn': True}
    # the grid of the training, which sets the scale of the rotation; timm assumes 16x16
    pretrain_kwargs = {**TOKEN, 'ref_feat_shape': (grid, grid)}
    kinds = {'base': {'naiveswiglu': True, 'subln': True}, 'tiny': {'swiglu': True}}
    for kind, extra in kinds.items():
        case = partial(make_case, vit=f'eva02_{kind}_patch14_224', sizes=[size])
        model = pretrain.VisionTransformerForMaskedImageModeling(
            predict_feature_dim=16, **common, **extra
        )
        yield case(
            f'eva02 {kind} pretrain', model, run=masked(model, size, 14), norm=model.norm,
            section='module', content={'optimizer': None, 'ds_version': '0.8'},
            kwargs=pretrain_kwargs,
        )  # fmt: skip
        settings = {'use_checkpoint': False, 'pt_hw_seq_len': 16, 'intp_freq': True}
        model = finetune.VisionTransformer(num_classes=10, **settings, **common, **extra)
        content = {'module': model.state_dict()}
        yield case(f'eva02 {kind} finetuned', model, section='model_ema', content=content)
