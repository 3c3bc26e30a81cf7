"""Load some labelled images of a config, resized, for the probe of frozen backbones."""

import random
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor

from ..engine.ridge import VOID
from .data_sources import Source, open_sources

_FEWEST = 4  # images of a split
_SMALLEST = 32  # pixels, as backbones require
_TRIES = 20  # random places for one background box
_COVERED = 0.3  # share of a background box that objects may cover


class Example(NamedTuple):
    """An image and its labels."""

    image: Tensor  # (3, H, W), RGB, 0..255; (1, H, W) for grey
    labels: Tensor  # of pixels (H, W), VOID for no class; or of boxes (N,)
    boxes: Tensor | None  # (N, 4), x1, y1, x2, y2 in pixels of `image`; None in segmentation


class ProbeData(NamedTuple):
    """Images to fit a probe on and to score it on."""

    classes: int  # in detection with the background, which is the last
    train: list[Example]
    val: list[Example]


def load_probe_data(config: Config, *, images: int = 200, size: int = 448) -> ProbeData:
    """Load images of the training and validation data of a config, two to one.

    Of the pipelines, only the loading of images and masks is used.

    Args:
        config: From `load_config`.
        images: Their number, drawn with a fixed seed; all where there are fewer.
        size: Longest edge of the resized images in pixels.

    Raises:
        ValueError: The config has too few labelled images, or a data set rejects its files.
    """
    if size < _SMALLEST:
        raise ValueError(f'--size {size}: the longest edge must have {_SMALLEST} pixels or more.')
    sources = open_sources(config, ('train', 'val'))
    for source in sources:
        for _, _, _, reason in source.refusals():
            raise ValueError(reason)
    classes, has_boxes = sources[0].split.classes, sources[0].split.boxes is not None
    if any(source.split.classes != classes for source in sources):
        raise ValueError('Training and validation data have different classes: correct metainfo.')
    preprocessor = (config.get('model') or {}).get('data_preprocessor') or {'bgr_to_rgb': True}
    step = -1 if preprocessor.get('bgr_to_rgb') else 1
    loaded = []
    for name, count in (('train', images - images // 3), ('val', images // 3)):
        found = []
        for source in (one for one in sources if one.split.name == name):
            labelled = {box.image for box in source.split.boxes or ()} or range(len(source.masks))
            found += [(source, index) for index in sorted(labelled)]
        chosen = random.Random(0).sample(found, min(max(count, 0), len(found)))
        examples = [_load(source, index, size, step) for source, index in chosen]
        loaded.append([one for one in examples if (one.labels != VOID).any()])
        if len(loaded[-1]) < _FEWEST:
            raise ValueError(
                f'{name}_dataloader of the config gives {len(loaded[-1])} of {count} labelled '
                f'images, and a probe needs {_FEWEST}: add data or labels, or raise --images.'
            )
    return ProbeData(len(classes) + has_boxes, *loaded)


def _load(source: Source, index: int, size: int, step: int) -> Example:
    image: Any = source.load(source.images[index])
    classes = len(source.split.classes)
    height, width = image.shape[:2]
    factor = size / max(height, width)
    shape = [max(_SMALLEST, round(edge * factor)) for edge in (width, height)]
    kind = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    image = np.atleast_3d(cv2.resize(image, shape, interpolation=kind))[..., ::step]
    image = torch.from_numpy(image.copy()).permute(2, 0, 1)
    if source.split.boxes is None:
        mask = source.read(source.masks[index]).astype('int32')
        mask[np.isin(mask, [*source.split.ignored])] = VOID
        if mask.shape != (height, width) or not VOID <= mask.min() <= mask.max() < classes:
            raise ValueError(
                f'{source.masks[index]} differs from its image in size, or holds values that are '
                'no class: run vit-dense check.'
            )
        labels = torch.from_numpy(cv2.resize(mask, shape, interpolation=cv2.INTER_NEAREST)).long()
        return Example(image, labels, None)
    own = [box for box in source.split.boxes if box.image == index]
    boxes = torch.tensor([[x, y, x + w, y + h] for _, _, (x, y, w, h) in own])
    boxes = boxes * torch.tensor([shape[0] / width, shape[1] / height] * 2)
    others = _background(boxes, shape)
    numbers = [box.label for box in own] + [classes] * len(others)
    return Example(image, torch.tensor(numbers), torch.cat([boxes, others]))


def _background(boxes: Tensor, shape: list[int]) -> Tensor:
    """Return boxes of the same sizes in random places (width, height) without objects."""
    generator = torch.Generator().manual_seed(0)
    found = [boxes[:0]]
    for size in boxes[:, 2:] - boxes[:, :2]:
        corner = torch.rand(_TRIES, 2, generator=generator) * (torch.tensor(shape) - size)
        tried = torch.cat([corner, corner + size], 1)
        low = torch.maximum(tried[:, None, :2], boxes[:, :2])
        common = (torch.minimum(tried[:, None, 2:], boxes[:, 2:]) - low).clamp(min=0)
        found.append(tried[common.prod(2).sum(1) < _COVERED * size.prod()][:1])
    return torch.cat(found)
