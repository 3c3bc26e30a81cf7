"""Google's ViTs in JAX (AugReg, big_vision), and timm's own training checkpoints."""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.parity.common import stub_module
from benchmarks.parity.layouts.case import (
    DEPTH,
    HEADS,
    SMALL,
    WIDTH,
    Case,
    Outputs,
    Size,
    make_case,
    pixels,
    rectangle,
)
from benchmarks.parity.values import image, value


def google(checkout: Path, grid: int) -> Iterator[Case]:
    """Build vision_transformer (AugReg) or big_vision, depending on what the checkout holds."""
    sys.path.insert(0, str(checkout))
    rows: list[tuple[str, Any, Size, dict[str, Any]]]
    size, rect = pixels((grid, grid)), pixels(rectangle(grid))
    pooled = {'class_token': False, 'global_pool': 'avg', 'fc_norm': False}
    if (checkout / 'vit_jax').is_dir():
        config = importlib.import_module('ml_collections').ConfigDict
        layers = {'num_layers': DEPTH, 'mlp_dim': 4 * WIDTH, 'num_heads': HEADS}
        model = importlib.import_module('vit_jax.models_vit').VisionTransformer(
            num_classes=10,
            patches=config({'size': (16, 16)}),
            hidden_size=WIDTH,
            transformer=layers | {'dropout_rate': 0.0, 'attention_dropout_rate': 0.0},
            representation_size=32,
        )
        rows = [('augreg', model, size, {}), ('augreg rectangle', model, rect, {})]
    else:
        stub_module('big_vision.utils')  # input pipelines, which need tensorflow
        build = partial(
            importlib.import_module('big_vision.models.vit')._Model,
            num_classes=10,
            patch_size=(16, 16),
            width=WIDTH,
            depth=DEPTH,
            num_heads=HEADS,
        )
        rows = [
            ('big_vision', build(pool_type='tok'), size, {}),
            ('big_vision mean', build(pool_type='gap'), size, pooled),
            ('big_vision attention pool', build(pool_type='map', scan=True), size, pooled),
        ]
    for name, model, pixel_size, extra in rows:
        state, found = run_jax(model, pixel_size, name, 0 if extra else 1)
        kwargs = {**SMALL, 'img_size': pixel_size, 'act_layer': 'gelu_tanh', **extra}
        content = {key: tensor.numpy() for key, tensor in state.items()}
        yield Case(
            name, content, '', state, found, 'vit_tiny_patch16_224', kwargs,
            suffix='.npz', note="act_layer='gelu_tanh', as JAX computes it",
        )  # fmt: skip


def run_jax(model: Any, size: Size, name: str, tokens: int) -> tuple[dict[str, Tensor], Outputs]:
    """Return weights by the formula, and the patch tokens of a flax module with them."""
    import jax
    import numpy as np
    from flax.traverse_util import flatten_dict, unflatten_dict

    pictures = jax.numpy.asarray(image(*size).permute(0, 2, 3, 1).numpy())
    extra = {'train': False}
    shapes = flatten_dict(model.init(jax.random.PRNGKey(0), pictures, **extra)['params'], sep='/')
    root = 'params/' if name.startswith('big_vision') else ''
    state = {root + key: value(root + key, tuple(array.shape)) for key, array in shapes.items()}
    arrays = {tuple(key.removeprefix(root).split('/')): t.numpy() for key, t in state.items()}
    _, seen = model.apply(
        {'params': unflatten_dict(arrays)}, pictures, **extra,
        capture_intermediates=True, mutable=['intermediates'],
    )  # fmt: skip
    flat = flatten_dict(seen['intermediates'], sep='/')
    normed = flat['Transformer/encoder_norm/__call__'][0]
    block = flat.get(f'Transformer/encoderblock_{DEPTH - 1}/__call__')
    found = {'norm': normed}
    if block is not None:  # big_vision's blocks return a tuple; stacked blocks have no such output
        found['blocks'] = block[0][0] if isinstance(block[0], tuple) else block[0]
    found = {k: torch.from_numpy(np.array(t))[:, tokens:] for k, t in found.items()}
    return state, {size: found}


def timm(_: Path | None, grid: int) -> Iterator[Case]:
    """Save models with a moving average by timm's own saver, and as safetensors."""
    import timm as library
    from timm.utils import CheckpointSaver, ModelEmaV3

    patches = {'vit_tiny_patch16_224': 16, 'eva02_tiny_patch14_224': 14}
    patches |= {'beit_base_patch16_224': 16, 'vit_small_patch16_dinov3': 16}
    for vit, patch in patches.items():
        size = pixels((grid, grid), patch)
        model = library.create_model(vit, num_classes=10, **SMALL, img_size=size)
        average = ModelEmaV3(model)
        ema: Any = average.module.eval()
        norm = None if isinstance(ema.norm, nn.Identity) else ema.norm
        tokens = ema.num_prefix_tokens
        case = partial(make_case, model=ema, vit=vit, sizes=[size], norm=norm, tokens=tokens)
        training = case(f'timm training, {vit}', section='state_dict_ema', suffix='.pth.tar')
        with tempfile.TemporaryDirectory() as folder:
            saver = CheckpointSaver(
                model, torch.optim.SGD(model.parameters()), args=argparse.Namespace(model=vit),
                model_ema=average, checkpoint_dir=folder, recovery_dir=folder,
            )  # fmt: skip
            saver.save_checkpoint(3, metric=70.0)
            training.content = torch.load(f'{folder}/last.pth.tar', weights_only=False)
        yield training
        if norm is not None:
            yield case(f'timm safetensors, {vit}', section='', suffix='.safetensors')
