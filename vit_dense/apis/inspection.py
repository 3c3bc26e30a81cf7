"""Write pictures of what a model sees in one image: features, attention, relevance."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.dataset import pseudo_collate

from ..data.pictures import Picture, legend
from ..engine.model_input import input_picture
from ..engine.normalization_check import reverses_channels
from ..inspection.report import Subject, inspect_image
from ..runtime.inputs import Item
from ..runtime.predictor import PredictOptions, Prepared
from ..runtime.results import Detections, class_indices
from ..runtime.writing import write_picture
from .model import TorchPredictor, load_model

_MIN_SCORE = 0.3  # of detections that are drawn
_LEGEND_WIDTH = 640


def inspect_model(
    config: Any,
    checkpoint: str | Path | None,
    image: str | Path,
    out: str | Path,
    *,
    point: tuple[int, int] | None = None,
    class_name: str | None = None,
    method: str = 'hirescam',
    device: str = 'auto',
) -> tuple[Path, list[str]]:
    """Inspect one image and write `sheet.png` and the single pictures.

    Args:
        config: As for `load_model`.
        checkpoint: The weights. None takes those of a checkpoint given as `config`, or initialises
            them as before training: pretrained, or random.
        image: The file.
        out: The folder to write to.
        point: (x, y) in pixels of the image. Its attention is shown, and the prediction at this
            point is explained. Default: attention of the centre; the whole image's prediction.
        class_name: Name or index of the class to explain; default: the most frequent one.
        method: 'hirescam' or 'gradcam'; see `vit_dense.inspection.explain`.
        device: As for `load_model`.

    Returns:
        Path of the sheet; what could not be shown, and why.

    Raises:
        ValueError: As for `load_model`; the point is not in the image, the class is not predicted,
            or the backbone is not of this package.
    """
    predictor = load_model(config, checkpoint, device, require_checkpoint=False)
    wanted = None if class_name is None else _class_index(class_name, predictor)
    prepared = predictor.prepare(Item(Path(image).name, path=str(image)), PredictOptions())
    model: Any = predictor.module
    batch = model.data_preprocessor(pseudo_collate([prepared.data]), False)
    sample = prepared.data['data_samples']
    picture = input_picture(sample, prepared.data['inputs'], reverse=reverses_channels(model))
    subject = Subject(
        model,
        batch,
        picture,
        predictor.classes,
        _place(point, picture, str(image)),
        weights=_weights(predictor, config, checkpoint),
        prediction=_prediction(predictor, prepared, picture),
    )
    page, singles, notes = inspect_image(
        subject, wanted=wanted, at_point=point is not None, method=method
    )
    for name, single in singles.items():
        write_picture(Path(out) / f'{name}.png', single)
    sheet = Path(out) / 'sheet.png'
    write_picture(sheet, page)
    return sheet, notes


def _place(point: tuple[int, int] | None, picture: Picture, name: str) -> tuple[int, int]:
    """Return the point, or the centre."""
    height, width = picture.shape[:2]
    x, y = point or (width // 2, height // 2)
    if not (0 <= x < width and 0 <= y < height):
        raise ValueError(
            f'--point {x},{y}: {name} has {width}x{height} pixels; give x in 0..{width - 1} and '
            f'y in 0..{height - 1}.'
        )
    return x, y


def _class_index(name: str, predictor: TorchPredictor) -> int:
    if name not in predictor.classes and name.isdecimal() and int(name) < len(predictor.classes):
        return int(name)
    return class_indices([name], predictor.classes)[0]


def _prediction(predictor: TorchPredictor, prepared: Prepared, image: Picture) -> Picture:
    """Draw the prediction, with a legend of the classes that occur."""
    (result,) = predictor.run([prepared], PredictOptions())
    if isinstance(result, Detections):
        return result.select(score_threshold=_MIN_SCORE).draw(image)
    drawn = result.draw(image)
    names = list(result.areas())
    colours = [result.palette[result.classes.index(name)].tolist() for name in names]
    width = max(drawn.shape[1], _LEGEND_WIDTH)
    height = round(drawn.shape[0] * width / drawn.shape[1])
    drawn = cv2.resize(drawn, (width, height), interpolation=cv2.INTER_NEAREST).astype(np.uint8)
    return np.vstack([drawn, legend(names, colours, width)])


def _weights(predictor: TorchPredictor, config: Any, checkpoint: str | Path | None) -> str:
    """Say where the weights are from."""
    if checkpoint is not None:
        return f'Weights: {Path(checkpoint).name}'
    if isinstance(config, str | Path) and Path(config).suffix != '.py':
        return f'Weights: {Path(config).name}'
    backbone: Any = predictor.module.backbone
    source = getattr(backbone, 'vit', backbone)
    given = getattr(source, 'checkpoint', None)
    if given is not None:
        return f'Untrained model; backbone from {given}'
    if getattr(source, 'pretrained', False):
        return f'Untrained model; pretrained backbone {source.model_name}'
    return 'Untrained model, random weights'
