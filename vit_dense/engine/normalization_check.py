"""Warns when images are normalised otherwise than the pretrained weights expect.

timm's weights were trained with three different conventions (0.5, ImageNet's, CLIP's), and a config
copied from another backbone keeps that one's numbers. Nothing fails then; the results are worse.
"""

import logging
from collections.abc import Sequence

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from .wrappers import unwrap

# mm configs count in grey levels, timm in shares of the full range.
_FULL_SCALE = 255.0
# Published configs round to 123.675; a convention that differs, differs by more than 1.
_TOLERANCE = 0.5


@HOOKS.register_module()
class NormalizationCheckHook(Hook):
    """Compares `model.data_preprocessor` with the `mean` and `std` of the backbone's ViT."""

    def before_run(self, runner: Runner) -> None:
        """Warns once, before the first iteration, naming both conventions."""
        message = describe_mismatch(runner.model)
        if message is not None:
            print_log(message, logger='current', level=logging.WARNING)


def describe_mismatch(model: nn.Module) -> str | None:
    """Says how the normalisation of `model` and of its backbone's weights differ.

    Args:
        model: A detector or segmentor, perhaps inside wrappers with the attribute `module`.

    Returns:
        A warning with both conventions, or None where they agree or the backbone names none.
    """
    model = unwrap(model)
    backbone = getattr(model, 'backbone', None)
    vit = getattr(backbone, 'vit', backbone)
    preprocessor = getattr(model, 'data_preprocessor', None)
    expected = [_read(vit, name, scale=_FULL_SCALE) for name in ('mean', 'std')]
    given = [_read(preprocessor, name, scale=1.0) for name in ('mean', 'std')]
    name = getattr(vit, 'model_name', type(vit).__name__)
    if preprocessor is None or None in expected:
        return None
    if _agree(given, expected):
        if getattr(preprocessor, 'channel_conversion', True):
            return None
        return (
            f'model.data_preprocessor leaves channels in the order they are loaded in, which is '
            f'BGR unless the pipeline says otherwise; the weights of {name} were trained on RGB. '
            'Set bgr_to_rgb=True in data_preprocessor.'
        )
    return (
        f'model.data_preprocessor normalises with {_show(given)}, but the weights of {name} were '
        f'trained with {_show(expected)}. Set the latter in data_preprocessor, unless the '
        'difference is meant.'
    )


def _read(owner: object, name: str, scale: float) -> list[float] | None:
    """Returns a per-channel attribute in grey levels, or None where `owner` has none."""
    values = getattr(owner, name, None)
    if values is None:
        return None
    return [scale * float(value) for value in torch.as_tensor(values).flatten()]


def _agree(given: Sequence[list[float] | None], expected: Sequence[list[float] | None]) -> bool:
    for one, other in zip(given, expected, strict=True):
        if one is None or other is None or len(one) != len(other):
            return False
        if any(abs(a - b) > _TOLERANCE for a, b in zip(one, other, strict=True)):
            return False
    return True


def _show(pair: Sequence[list[float] | None]) -> str:
    mean, std = ('none' if v is None else str([round(level, 3) for level in v]) for v in pair)
    return f'mean={mean}, std={std}'
