"""Which labels of masks are classes and which are ignored, by the arguments of the data set."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

import vit_dense.segmentation  # noqa: F401 - registers
from vit_dense.apis.data_sources import open_sources

VALUES = [0, 1, 2, 3, 255]
COLOURS = [(0, 0, 7), (1, 0, 0), (2, 2, 2), (3, 3, 3)]  # the last is no class


@pytest.mark.parametrize(
    ('options', 'labels', 'ignored'),
    [
        ({}, [0, 1, 2, 3, 255], {255}),
        ({'ignore_index': 1}, [0, 1, 2, 3, 255], {1}),
        # 0 is "other", the classes begin at 1.
        ({'reduce_zero_label': True}, [255, 0, 1, 2, 255], {255}),
        ({'type': 'BaseSegDataset'}, [0, 1, 2, 3, 255], {255}),
        ({'type': 'BaseSegDataset', 'reduce_zero_label': True}, [255, 0, 1, 2, 255], {255}),
        # Two of its classes alone.
        ({'type': 'CheckedADE20KDataset', 'metainfo': {'classes': ('building', 'sky')}},
         [255, 255, 0, 1, 255], {255}),
        ({'label_map': {0: 0, 1: 255, 2: 1, 3: 2, 255: 2}}, [0, 255, 1, 2, 2], {255}),
        ({'colours': COLOURS}, [0, 1, 2, 255], {255}),
        ({'colours': COLOURS, 'label_map': {0: 1, 1: 255, 2: 0, 3: 2}},
         [1, 255, 0, 2], {255}),
    ],
)  # fmt: skip
def test_labels_are_those_of_training(
    options: dict[str, Any], labels: list[int], ignored: set[int], tmp_path: Path
) -> None:
    row = COLOURS if 'colours' in options else VALUES
    values = np.array([row, row], np.uint8)
    Image.fromarray(values).save(tmp_path / 'a.png')
    pipeline = [{'type': one} for one in ('LoadImageFromFile', 'LoadAnnotations')]
    part = {
        'type': 'CheckedSegDataset',
        'metainfo': {'classes': ('a', 'b', 'c')},
        'data_prefix': {'img_path': str(tmp_path), 'seg_map_path': str(tmp_path)},
        'pipeline': pipeline,
        **options,
    }
    config = Config({'default_scope': 'mmseg', 'train_dataloader': {'dataset': part}})
    (source,) = open_sources(config, ['train'])
    assert source.read(str(tmp_path / 'a.png')).tolist() == [labels] * 2
    assert source.split.ignored == ignored
