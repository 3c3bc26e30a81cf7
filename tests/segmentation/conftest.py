"""A small data folder and configs over it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import vit_dense.segmentation  # noqa: F401 - mmseg imports only after it, on a plain install

CLASSES = ('road', 'sky', 'car')
PIPELINE = [
    {'type': 'LoadImageFromFile'},
    {'type': 'LoadAnnotations'},
    {'type': 'PackSegInputs'},
]


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """Four pairs of 40x48 pixels with the labels 0, 1, 2 and 255."""
    rng = np.random.default_rng(0)
    for split in ('training', 'validation'):
        images, masks = tmp_path / 'images' / split, tmp_path / 'annotations' / split
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        for index in range(4):
            image = rng.integers(0, 256, (40, 48, 3), np.uint8)
            mask = rng.choice(np.array([0, 1, 2, 255], np.uint8), (40, 48))
            cv2.imwrite(str(images / f'{index}.png'), image)
            cv2.imwrite(str(masks / f'{index}.png'), mask)
    return tmp_path


@pytest.fixture
def dataset_config(data_root: Path) -> Callable[..., dict[str, Any]]:
    """Makes the config of a data set over `data_root`; keywords replace its entries."""

    def make(split: str = 'training', **changes: Any) -> dict[str, Any]:
        config = {
            'type': 'CheckedSegDataset',
            'data_root': str(data_root),
            'data_prefix': {'img_path': f'images/{split}', 'seg_map_path': f'annotations/{split}'},
            'metainfo': {'classes': CLASSES, 'palette': [[0, 0, 0], [9, 9, 9], [200, 0, 0]]},
            'img_suffix': '.png',
            'pipeline': PIPELINE,
            'serialize_data': False,  # takes 0.3 s
        }
        config.update(changes)
        return config

    return make
