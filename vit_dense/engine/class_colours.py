"""Class names and colours of a data set, also where it has no palette."""

import cv2
import numpy as np
from mmengine.dataset import BaseDataset
from torch.utils.data import DataLoader

from .wrappers import iter_datasets

_HUES = 6


def class_colours(loader: DataLoader) -> tuple[list[str], list[list[int]]]:
    """Return name and RGB colour of each class of the data set of `loader`."""
    dataset = next(iter_datasets(loader.dataset))
    assert isinstance(dataset, BaseDataset)
    classes = list(dataset.metainfo['classes'])
    palette = [list(rgb) for rgb in dataset.metainfo.get('palette') or ()]
    missing = range(len(palette), len(classes))
    return classes, palette + [_spread_colour(index) for index in missing]


def _spread_colour(index: int) -> list[int]:
    """Return a colour for class `index`, with a hue far from those of `index - 1` and `+ 1`."""
    step, turn = index % _HUES, index // _HUES
    hue = (step * 180 // _HUES + turn * 11) % 180
    pixel = np.array([[[hue, 255 - 60 * (turn % 3), 230 - 40 * (turn % 4)]]], np.uint8)
    return [int(level) for level in cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0]]
