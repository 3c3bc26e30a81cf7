"""A small COCO data set on disk, and configs over it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from coco_files import CLASSES, sound, write, write_images
from mmengine.registry import DATASETS

import vit_dense.detection  # noqa: F401 - mmdet imports only after it, on a plain install

Make = Callable[..., dict[str, Any]]


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """Two pictures of 48x40 pixels with one box each: a cat, a dog."""
    write_images(tmp_path)
    write(tmp_path, sound())
    return tmp_path


@pytest.fixture
def dataset_config(data_root: Path) -> Make:
    """Makes the config of a data set over `data_root`; keywords replace its entries."""

    def make(**changes: Any) -> dict[str, Any]:
        config = {
            'type': 'CheckedCocoDataset',
            'data_root': str(data_root),
            'ann_file': 'annotations/train.json',
            'data_prefix': {'img': 'images'},
            'metainfo': {'classes': CLASSES, 'palette': [(200, 0, 0), (0, 0, 200)]},
            'filter_cfg': {'filter_empty_gt': True, 'min_size': 32},
            'serialize_data': False,  # which collects garbage, a quarter of a second
            'pipeline': [
                {'type': 'LoadImageFromFile'},
                {'type': 'LoadAnnotations', 'with_bbox': True, 'with_mask': True},
                {'type': 'PackDetInputs'},
            ],
        }
        config.update(changes)
        return config

    return make


@pytest.fixture
def build() -> Callable[[dict[str, Any]], Any]:
    """Builds a data set as mmdet does."""

    def build_one(config: dict[str, Any]) -> Any:
        with DATASETS.switch_scope_and_registry('mmdet') as registry:
            return registry.build(config)

    return build_one
