"""Warn if images are normalised differently from what the pretrained weights expect.

timm's weights were trained with three conventions (0.5, ImageNet's, CLIP's), and a config copied
from another backbone keeps that backbone's values. Training still runs; the results are worse.
"""

import logging
from collections.abc import Iterable, Sequence

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from .wrappers import find_encoder, unwrap

# OpenMMLab configs use grey levels of 0..255, timm uses 0..1.
_FULL_SCALE = 255.0
# Published configs round to 123.675; two different conventions differ by more than 1.
_TOLERANCE = 0.5


@HOOKS.register_module()
class NormalizationCheckHook(Hook):
    """Compare `model.data_preprocessor` with the `mean` and `std` of the ViT's weights."""

    def before_run(self, runner: Runner) -> None:
        """Check the values, before weights are loaded.

        Raises:
            ValueError: A value of `std` is not positive, or there are not as many as channels.
        """
        for model in _models(runner):
            check_std(model)
            if (note := describe_order(model)) is not None:
                print_log(note, logger='current')

    def before_train(self, runner: Runner) -> None:
        """Warn if they differ; the file of a pretraining, loaded by now, has its own."""
        for model in _models(runner):
            message = describe_mismatch(model)
            if message is not None:
                print_log(message, logger='current', level=logging.WARNING)

    before_test = before_train


def _models(runner: Runner) -> Iterable[nn.Module]:
    return getattr(unwrap(runner.model), 'tasks', {'': runner.model}).values()


def check_std(model: nn.Module) -> None:
    """Raise `ValueError` if `data_preprocessor.std` has a value by which nothing can be divided."""
    preprocessor = getattr(unwrap(model), 'data_preprocessor', None)
    std = _read(preprocessor, 'std', scale=1.0)
    if std is not None and not all(value > 0 for value in std):
        raise ValueError(
            f'model.data_preprocessor.std={std}: images are divided by it, so every value must be '
            'positive. Set std=[1.0, 1.0, 1.0] to leave the range as it is, or the values of the '
            "backbone's weights, such as std=[58.395, 57.12, 57.375]."
        )


def describe_order(model: nn.Module) -> str | None:
    """Return a note on the order of channels if the backbone takes more than three.

    Raises:
        ValueError: `mean` or `std` have neither one value nor one for each channel.
    """
    model = unwrap(model)
    count = getattr(find_encoder(model), 'in_chans', None)
    for name in ('mean', 'std'):
        given = _read(getattr(model, 'data_preprocessor', None), name, scale=1.0)
        if count is not None and given is not None and len(given) not in (1, count):
            raise ValueError(
                f'model.data_preprocessor.{name}={given} has {len(given)} values, the backbone '
                f'takes {count} channels (in_chans). Give one for each, in the order of the loader.'
            )
    if count is None or count <= 3:
        return None
    return (
        f'The model takes {count} channels in the order of the loader, whatever bgr_to_rgb says: '
        'LoadImageFromFile (OpenCV) gives B, G, R before the others, LoadBands the order of the '
        'file or of its argument bands. Pretrained weights expect R, G, B first.'
    )


def describe_mismatch(model: nn.Module) -> str | None:
    """Describe how the normalisation of `model` and of its backbone's weights differ.

    Args:
        model: A detector or segmentor, possibly inside wrappers with the attribute `module`.

    Returns:
        A warning with both conventions, or None if they agree or the backbone has none.
    """
    model = unwrap(model)
    vit = find_encoder(model)
    preprocessor = getattr(model, 'data_preprocessor', None)
    record = getattr(vit, 'record', {})  # of the file of its weights
    expected = [record.get(name) or _read(vit, name, scale=_FULL_SCALE) for name in ('mean', 'std')]
    given = [_read(preprocessor, name, scale=1.0) for name in ('mean', 'std')]
    name = getattr(vit, 'model_name', type(vit).__name__)
    if preprocessor is None or None in expected:
        return None
    if getattr(vit, 'in_chans', 3) != len(expected[0] or ()):
        return None  # the weights' values are of three channels, the images have others
    if _agree(given, expected):
        if len(expected[0] or ()) != 3 or reverses_channels(model):
            return None
        return (
            f'model.data_preprocessor leaves channels in the order they are loaded in, which is '
            f'BGR unless the pipeline says otherwise; the weights of {name} were trained on RGB. '
            'Set bgr_to_rgb=True in data_preprocessor.'
        )
    return (
        f'model.data_preprocessor normalises with {_show(given)}, but the weights of {name} were '
        f'trained with {_show(expected)}. Set the latter in data_preprocessor, unless the '
        'difference is intended.'
    )


def reverses_channels(model: nn.Module | None) -> bool:
    """Return whether the model reverses the three channels of an image, e.g. from BGR to RGB.

    Args:
        model: Without wrappers. A model without a preprocessor counts as one that does.
    """
    preprocessor = getattr(model, 'data_preprocessor', None)
    # mmseg's name, then that of mmengine and mmdet.
    for name in ('channel_conversion', '_channel_conversion'):
        if hasattr(preprocessor, name):
            return bool(getattr(preprocessor, name))
    return True


def _read(owner: object, name: str, scale: float) -> list[float] | None:
    """Return a per-channel attribute in grey levels, or None if `owner` has none."""
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
