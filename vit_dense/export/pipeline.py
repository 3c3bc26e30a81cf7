"""From a config's test pipeline and data preprocessor to the pre-processing of an exported file."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from ..engine.normalization_check import reverses_channels
from ..runtime.file_description import Preprocessing, Resize
from .graph import ExportError

# Steps without an effect on the image.
_NEUTRAL = ('LoadAnnotations', 'PackSegInputs', 'PackDetInputs')
_REQUIRED = {
    'LoadImageFromFile': {'color_type': 'color', 'imdecode_backend': 'cv2'},
    'Resize': {'interpolation': 'bilinear', 'backend': 'cv2'},
}


def preprocessing_of(pipeline: Sequence[dict[str, Any]], module: nn.Module) -> Preprocessing:
    """Return what the runtime must do before the graph.

    The pre-processing stays outside of the graph: padding follows normalisation in mmdet, and a
    graph that starts with normalised values is the model unchanged.

    Args:
        pipeline: The test pipeline of the config.
        module: The model, with its `data_preprocessor`.

    Raises:
        ExportError: The runtime has no such step or setting.
    """
    resizes: list[Resize] = []
    for step in pipeline:
        name = _name(step)
        if 'Annotation' in name and name.startswith('Load'):
            continue
        if name not in (*_NEUTRAL, *_REQUIRED):
            raise ExportError(
                f'The test pipeline has the step {name}, which exported files cannot repeat. They '
                f'have {", ".join((*_REQUIRED, *_NEUTRAL))}: remove {name} from the test pipeline.'
            )
        for key, value in _REQUIRED.get(name, {}).items():
            if step.get(key, value) != value:
                raise ExportError(
                    f'{name} has {key}={step[key]!r} in the test pipeline; exported files know '
                    f'{key}={value!r} only.'
                )
        if name == 'Resize':
            resizes.append(_resize(step))
    return _with_normalisation(tuple(resizes), module)


def _resize(step: dict[str, Any]) -> Resize:
    factor = step.get('scale_factor')
    keep_ratio = bool(step.get('keep_ratio', False))
    if factor is not None:
        pair = (factor, factor) if isinstance(factor, int | float) else tuple(factor)
        return Resize(factor=(float(pair[0]), float(pair[1])), keep_ratio=keep_ratio)
    scale = step['scale']
    pair = (scale, scale) if isinstance(scale, int) else tuple(scale)
    return Resize(scale=(int(pair[0]), int(pair[1])), keep_ratio=keep_ratio)


def _with_normalisation(resizes: tuple[Resize, ...], module: nn.Module) -> Preprocessing:
    preprocessor: Any = module.data_preprocessor
    mean = getattr(preprocessor, 'mean', None)
    std = getattr(preprocessor, 'std', None)
    size = None
    divisor = int(getattr(preprocessor, 'pad_size_divisor', 1))
    value = getattr(preprocessor, 'pad_value', 0)
    if hasattr(preprocessor, 'pad_val'):  # mmseg pads in tests only if `test_cfg` says so
        value = preprocessor.pad_val
        settings = preprocessor.test_cfg or {}
        size = settings.get('size')
        divisor = settings.get('size_divisor') or 1
    return Preprocessing(
        resizes=resizes,
        mean=None if mean is None else tuple(mean.flatten().tolist()),
        std=None if std is None else tuple(std.flatten().tolist()),
        swap_channels=reverses_channels(module),
        pad_size=None if size is None else (int(size[0]), int(size[1])),
        pad_divisor=int(divisor),
        pad_value=float(value),
    )


def _name(step: dict[str, Any]) -> str:
    kind: Any = step.get('type', '')
    return (kind if isinstance(kind, str) else kind.__name__).rpartition('.')[-1]
