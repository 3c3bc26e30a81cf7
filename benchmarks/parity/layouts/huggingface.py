"""Hugging Face transformers: ViT, DINOv2 with and without registers, DINOv3.

Weights are set in the file that `save_pretrained` writes, and the module is read back from it by
`from_pretrained`: both sides then depend on the names in the file, not on those of one version.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.parity.layouts.case import (
    DEPTH,
    HEADS,
    WIDTH,
    Case,
    Size,
    make_case,
    pixels,
    rectangle,
)
from benchmarks.parity.values import value

# its layers by the class of the model and by the version of transformers
LAYERS = ('encoder.layer', 'layer', 'model.layer', 'layers', 'encoder.layers')


def transformers(_: Path | None, grid: int) -> Iterator[Case]:
    """Build those of the installed package."""
    square, at_14 = pixels((grid, grid)), pixels((grid, grid), 14)
    rect, rect_14 = pixels(rectangle(grid)), pixels(rectangle(grid), 14)
    antialias = {'antialias': False}
    vit = {'intermediate_size': 4 * WIDTH, 'layer_norm_eps': 1e-6}
    dinov3 = {'intermediate_size': 4 * WIDTH, 'patch_size': 16, 'num_register_tokens': 4}
    no_bias = {'query_bias': False, 'value_bias': False}
    gated = {'use_gated_mlp': True, 'hidden_act': 'silu'}
    registers = {'patch_size': 14, 'num_register_tokens': 4}
    rows: list[tuple[str, str, dict[str, Any], str, list[Size], dict[str, Any]]] = [
        ('vit', 'ViT', vit, 'vit_tiny_patch16_224', [square], {}),
        ('vit resized', 'ViT', vit, 'vit_tiny_patch16_224', [rect], antialias),
        ('dinov2', 'Dinov2', {}, 'vit_small_patch14_dinov2', [at_14], {}),
        ('dinov2 resized', 'Dinov2', {}, 'vit_small_patch14_dinov2', [rect_14], antialias),
        ('dinov2 swiglu', 'Dinov2', {'use_swiglu_ffn': True}, 'vit_giant_patch14_dinov2',
         [at_14], {}),
        ('dinov2 registers', 'Dinov2WithRegisters', registers, 'vit_small_patch14_reg4_dinov2',
         [at_14, rect_14], {}),
        ('dinov3', 'DINOv3ViT', dinov3, 'vit_small_patch16_dinov3_qkvb', [square, rect], {}),
        ('dinov3 no bias', 'DINOv3ViT', {**dinov3, **no_bias}, 'vit_small_patch16_dinov3',
         [square, rect], {}),
        ('dinov3 gated', 'DINOv3ViT', {**dinov3, **gated}, 'vit_small_plus_patch16_dinov3_qkvb',
         [square, rect], {}),
    ]  # fmt: skip
    for name, family, settings, timm_name, sizes, options in rows:
        built_for = at_14 if timm_name.endswith('dinov2') else square
        model, state = build(family, {'image_size': built_for[0], **settings})
        resize = {'interpolate_pos_encoding': True} if family == 'ViT' else {}
        case = make_case(
            f'transformers {name}', model, timm_name, sizes, section='', fill=False,
            run=partial(model, **resize), last=last_layer(model),
            norm=getattr(model, 'layernorm', None) or model.norm,
            tokens=1 + settings.get('num_register_tokens', 0), options=options,
            kwargs={'mlp_ratio': 5.334} if 'swiglu' in name else {},  # counts both halves
            suffix='.safetensors',
        )  # fmt: skip
        case.content = case.state = state
        yield case


def build(family: str, settings: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Build a model with weights by the formula, and return it and the tensors of its file."""
    from safetensors.torch import load_file, save_file

    library = importlib.import_module('transformers')
    model = getattr(library, f'{family}Model')
    config = getattr(library, f'{family}Config')(
        hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS, **settings
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'model.safetensors'
        model(config).save_pretrained(folder)
        state = {key: value(key, tuple(t.shape)) for key, t in load_file(path).items()}
        save_file(state, path, metadata={'format': 'pt'})
        return model.from_pretrained(folder).eval(), state


def last_layer(model: Any) -> Any:
    """Return the last block.

    Raises:
        RuntimeError: It has another name than in the tested versions of transformers.
    """
    modules = dict(model.named_modules())
    for name in LAYERS:
        if name in modules:
            return modules[name][-1]
    raise RuntimeError(f'{type(model).__name__} has none of {", ".join(LAYERS)}')
