"""Where a backbone's weights come from: timm's releases, or a file with options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import timm
from mmengine.logging import MMLogger
from torch import Tensor

from .load import load_vit_weights
from .match import LoadReport
from .record import check_record

__all__ = ['WeightsUnavailableError', 'check_source', 'load_from_source']

# Arguments of timm's models that say where weights are, not what the model looks like.
_OTHER_WEIGHTS = {'pretrained_cfg', 'pretrained_cfg_overlay'}
_WEIGHT_SOURCE = {*_OTHER_WEIGHTS, 'cache_dir'}

Checkpoint = str | Path | dict[str, Any] | None


class WeightsUnavailableError(ValueError):
    """timm's pretrained weights could not be fetched."""


def check_source(pretrained: bool, checkpoint: Checkpoint) -> None:
    """Check the arguments that name the weights when the model is built, before any is loaded.

    Raises:
        ValueError: If both name some; if `checkpoint` is neither a path nor a dict, or a dict
            without `path`, or with an option that `load_vit_weights` does not have.
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
    if not isinstance(checkpoint['path'], str | Path):
        raise ValueError(
            f'checkpoint={checkpoint!r}: path must name a file; for random weights, set '
            f'checkpoint=None'
        )


def load_from_source(backbone: Any, load: Callable[[Path | dict[str, Tensor]], LoadReport]) -> bool:
    """Load the weights that a backbone's arguments name, and log the report.

    Args:
        backbone: Has the attributes `model` (of timm), `model_name`, `pretrained`, `checkpoint`
            and `model_kwargs`.
        load: Loads a file or a state dict into it.

    Returns:
        Whether any weights are named.

    Raises:
        CheckpointMismatchError: If the weights do not fit.
        WeightsUnavailableError: If timm's weights cannot be had.
    """
    checkpoint = backbone.checkpoint
    path = checkpoint['path'] if isinstance(checkpoint, dict) else checkpoint
    if path is not None:
        report = load(Path(path))
        check_record(report.record, backbone.model_name, backbone.model_kwargs, report.place)
        backbone.record = report.record  # its mean and std are compared with the images'
    elif backbone.pretrained:
        report = load(_timm_weights(backbone.model_name, backbone.model_kwargs))
        if not _OTHER_WEIGHTS & backbone.model_kwargs.keys():
            report.licence = backbone.model.pretrained_cfg.get('license') or ''
    else:
        return False
    origin = 'timm' if path is None else 'file'
    MMLogger.get_current_instance().info(f'{backbone.model_name}, weights from {origin}: {report}')
    return True


def _timm_weights(model_name: str, model_kwargs: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return timm's weights as released.

    They are loaded into a model without `model_kwargs`, so that timm loads all of them and our
    loader sees what does not fit our model.
    """
    source = {k: v for k, v in model_kwargs.items() if k in _WEIGHT_SOURCE}
    try:
        return timm.create_model(model_name, pretrained=True, **source).state_dict()
    except Exception as error:  # network, hub, cache and file errors share no base class
        raise WeightsUnavailableError(
            f'timm could not provide pretrained weights of {model_name!r} ({error}). Without '
            f'access to the Hugging Face Hub, pass a local file: pretrained=False and '
            f'checkpoint="path.safetensors"; for random weights set pretrained=False alone'
        ) from error
