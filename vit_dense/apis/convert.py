"""Offline conversion of weight files: other people's names and layouts in, ours out."""

import json
import re
from pathlib import Path
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from ..backbones import TimmViT
from ..engine.wrappers import find_encoder
from ..weights import ForeignModel, LoadReport, load_vit_weights, recognise_foreign
from ..weights.architecture import guess_architecture
from ..weights.match import require
from ..weights.read import read_tensors
from ..weights.record import SECTION, check_record
from .config import load_config
from .merge_lora import without_lora

_TORCH = ('.pth', '.pt')
_SUFFIXES = (*_TORCH, '.safetensors')
_ADAPTER = re.compile(r'(^|\.)(spm\.|interactions\.\d+\.)')


def convert_checkpoint(
    source: str,
    destination: str,
    *,
    config: str | None = None,
    model_name: str | None = None,
) -> LoadReport:
    """Write the weights of `source` under this package's names to `destination`.

    A released ViT-Adapter or ViT-CoMer becomes a checkpoint for `load_from` and for tests, heads
    included. Anything else becomes the ViT that it holds, under timm's names, for
    `vit.checkpoint`. Either is loaded into a model first, heads only with a config.

    Args:
        source: Any weight file that `read_checkpoint` reads; nothing in it is run.
        destination: `.pth`, `.pt` or `.safetensors`.
        config: Config file of the model that the file is for. Default: what its shapes tell.
        model_name: timm name of a ViT's architecture, without a config. Default: as above.

    Returns:
        What became of each tensor; its `str` is meant for the user.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read, is not recognised or does not fit the model, if
            `destination` is the source or has another suffix, or if both `config` and `model_name`
            are given.
    """
    if config is not None and model_name is not None:
        raise ValueError(
            f'--config {config} and --model-name {model_name} both name the architecture: give one'
        )
    target = Path(destination)
    if target.suffix not in _SUFFIXES:
        raise ValueError(f'{destination}: write to a file that ends in {", ".join(_SUFFIXES)}')
    if target.resolve() == Path(source).resolve():
        raise ValueError(f'{destination} is the source itself: name another file')
    tensors, _, _, record = read_tensors(source)
    model = _build(config) if config is not None else None
    foreign = recognise_foreign(tensors)
    if foreign is not None:
        state, report = _convert_foreign(foreign, model, source)
    else:
        state, report = _convert_vit(tensors, model, source, model_name, record)
    _write(state, target, wrapped=foreign is not None, record=record)
    return report


def _build(path: str) -> nn.Module:
    """Build the model of a config file, with random weights."""
    config = load_config(path)
    init_default_scope(config.get('default_scope', 'mmengine'))
    return MODELS.build(ConfigDict(without_lora(config.model)))


def _convert_foreign(
    foreign: ForeignModel, model: nn.Module | None, source: str
) -> tuple[dict[str, Tensor], LoadReport]:
    target = model if model is not None else MODELS.build(foreign.settings)
    state, report = foreign.plan(target.state_dict(), source)
    require(
        report, 'the config' if model is not None else str(foreign), advice=foreign.advice(report)
    )
    report.notes += [f'model.backbone={foreign.settings}']
    if model is None:
        state = {f'backbone.{name}': tensor for name, tensor in state.items()} | foreign.others
    else:
        report.notes += [f'The config computes otherwise: {x}' for x in foreign.differences(model)]
    return state, report


def _convert_vit(
    tensors: dict[str, Tensor],
    model: nn.Module | None,
    source: str,
    model_name: str | None,
    record: dict[str, Any],
) -> tuple[dict[str, Tensor], LoadReport]:
    if adapter := sorted(name for name in tensors if _ADAPTER.search(name)):
        raise ValueError(
            f'{source} holds an adapter ({adapter[0]} and {len(adapter) - 1} more tensors) '
            'that is not recognised as released. Checkpoints of this package need no conversion: '
            'give them to load_from; to take the ViT alone, name the file in vit.checkpoint'
        )
    if model is not None:
        vit: Any = find_encoder(model)
        if not isinstance(vit, TimmViT):
            raise ValueError(
                f'{source} holds a ViT, but the config has no TimmViT at model.backbone.vit: give '
                'a config whose backbone is an adapter, or none'
            )
        name, kwargs = vit.model_name, vit.model_kwargs
    elif record:
        name, kwargs = model_name or record['model_name'], record['model_kwargs']
    else:
        name, kwargs = (model_name, {}) if model_name else guess_architecture(tensors)
    check_record(record, name, kwargs, source)
    if model is None:
        vit = TimmViT(name, model_kwargs=kwargs)
    # without a config, whatever fits the architecture that was told or named
    options = vit.load_options() if model is not None else {}
    report = load_vit_weights(vit.model, source, **options)
    if model is None and 'norm.weight' in report.ignored:
        vit = TimmViT(name, final_norm=None, model_kwargs=kwargs)
        report = load_vit_weights(vit.model, source)
    report.notes.append(f'as {name} with {kwargs}')
    # Tensors that the file lacks are not written.
    state = vit.model.state_dict()
    return {name: state[name] for name in report.loaded}, report


def _write(state: dict[str, Tensor], path: Path, *, wrapped: bool, record: dict[str, Any]) -> None:
    state = {name: tensor.contiguous().clone() for name, tensor in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in _TORCH:
        meta = {'meta': {SECTION: record}} if record else {}
        torch.save({'state_dict': state, **meta} if wrapped or meta else state, path)
        return
    # A requirement of timm, hence always there; imported here to keep the package's import light.
    from safetensors.torch import save_file

    save_file(state, str(path), metadata={SECTION: json.dumps(record)} if record else None)
