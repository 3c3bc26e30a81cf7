"""The one place where the comparisons load weights with vit_dense."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from vit_dense.backbones import TimmViT
from vit_dense.engine import CheckpointCheckHook
from vit_dense.weights import LoadReport, load_vit_weights, recognise_foreign


def load_vit(
    vit: str, path: Path, *, final_norm: bool, kwargs: dict[str, Any], options: dict[str, Any]
) -> tuple[TimmViT, LoadReport]:
    """Build a ViT in evaluation mode and load a weight file into it.

    Args:
        vit: timm name.
        path: The file.
        final_norm: Whether the ViT has a final norm.
        kwargs: Of the timm model.
        options: Of loading.
    """
    model = TimmViT(vit, final_norm=final_norm, model_kwargs=kwargs).eval()
    return model, load_vit_weights(model.model, path, **options)


def build_from_release(state: dict[str, Tensor], window: int | None = None) -> nn.Module:
    """Build our backbone with the settings that a released checkpoint implies, and load it.

    Args:
        state: Tensors of the checkpoint, backbone and head.
        window: Edge of the attention windows in tokens; None for global attention.

    Raises:
        RuntimeError: A tensor is missing, left over or of another shape.
    """
    released = recognise_foreign(state)
    if released is None:
        raise RuntimeError('the release was not recognised by its names')
    settings = released.settings
    if window is not None:
        settings['vit'] = {**settings['vit'], 'window_size': window}
    model = MODELS.build(settings)
    weights, report = released.plan(model.state_dict(), 'random weights')
    if report.missing or report.unexpected or report.mismatched:
        raise RuntimeError(str(report))
    model.load_state_dict(weights)
    return model.eval()


def load_checkpoint(model: nn.Module, path: Path) -> int:
    """Load a released file into a whole model as a test does; return the number of its tensors.

    Raises:
        ValueError, RuntimeError: A tensor is missing or left over.
    """
    checkpoint = torch.load(path)
    runner = SimpleNamespace(model=model, _train_loop=None, _resume=False)
    CheckpointCheckHook().after_load_checkpoint(runner, checkpoint)
    model.load_state_dict(checkpoint['state_dict'], strict=True)
    return len(checkpoint['state_dict'])
