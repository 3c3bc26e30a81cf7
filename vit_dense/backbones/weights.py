"""Where a ViT's weights come from: timm's releases, or a file with options."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from torch import Tensor

from ..weights import load_vit_weights

# Arguments of timm's models that say where weights lie, not what the model looks like.
_WEIGHT_SOURCE = {'pretrained_cfg', 'pretrained_cfg_overlay', 'cache_dir'}


class WeightsUnavailableError(ValueError):
    """timm's pretrained weights could not be fetched."""


def timm_weights(model_name: str, model_kwargs: Mapping[str, Any]) -> dict[str, Tensor]:
    """timm's weights as released.

    The model they come in has its own released form, whatever `model_kwargs` make of ours: so that
    timm loads all of them, and what does not fit ours is seen by our loader.

    Raises:
        WeightsUnavailableError: no such weights, or no way to fetch them.
    """
    source = {k: v for k, v in model_kwargs.items() if k in _WEIGHT_SOURCE}
    try:
        return timm.create_model(model_name, pretrained=True, **source).state_dict()
    except Exception as error:  # network, hub, cache and file errors share no base class
        raise WeightsUnavailableError(
            f'timm could not provide pretrained weights of {model_name!r} ({error}). Without '
            f'access to the Hugging Face Hub, pass a local file: checkpoint="path.safetensors"; '
            f'for random weights set pretrained=False'
        ) from error


def check_source(pretrained: bool, checkpoint: str | dict[str, Any] | None) -> None:
    """Checks what names the weights when the model is built, long before they are loaded.

    Raises:
        ValueError: both name some; `checkpoint` is neither a path nor a dict, or a dict without
            `path` or with an option that `load_vit_weights` has not.
    """
    if pretrained and checkpoint is not None:
        raise ValueError(
            f'pretrained=True and checkpoint={checkpoint!r} both name weights: set one of them '
            f'(pretrained=False where a base config has it on)'
        )
    if not isinstance(checkpoint, dict | str | Path | None):
        raise ValueError(f'checkpoint={checkpoint!r}: give the path of a file, or dict(path=...)')
    if not isinstance(checkpoint, dict):
        return
    options = set(inspect.signature(load_vit_weights).parameters) - {'model', 'source'}
    if 'path' not in checkpoint or checkpoint.keys() - options - {'path'}:
        raise ValueError(
            f'checkpoint={checkpoint!r}: give dict(path=...) and none but these options: '
            f'{", ".join(sorted(options))}'
        )
