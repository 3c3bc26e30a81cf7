"""Converted data have the labels that the data set of the config gives."""

import json
from pathlib import Path
from typing import Any

import coco_files
import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

import vit_dense.detection
import vit_dense.segmentation  # noqa: F401 - registers
from vit_dense.apis.convert_data import convert_data
from vit_dense.data.annotations import read_boxes


def masks_config(root: Path, classes: int = 2, **options: Any) -> Config:
    """Returns a config of training data in `root/i` and `root/m`, with subfolders."""
    part = {
        'type': 'CheckedSegDataset',
        'data_root': str(root),
        'metainfo': {'classes': [f'class {n}' for n in range(classes)]},
        'data_prefix': {'img_path': 'i', 'seg_map_path': 'm'},
        'pipeline': [{'type': one} for one in ('LoadImageFromFile', 'LoadAnnotations')],
        **options,
    }
    return Config({'default_scope': 'mmseg', 'train_dataloader': {'dataset': part}})


def write_pair(root: Path, values: Any, name: str = 'ulm/a.b') -> None:
    for folder, end, pixels in (
        ('i', '.jpg', np.zeros((2, 3, 3), np.uint8)),
        ('m', '.png', values),
    ):
        path = root / folder / f'{name}{end}'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


RGB = np.array([[(0, 0, 7), (9, 0, 0), (5, 5, 5)]] * 2, np.uint8)
ROW = np.array([[0, 255, 1]] * 2, np.uint8)


@pytest.mark.parametrize(
    ('values', 'options', 'expected'),
    [
        (ROW, {}, [0, 255, 1]),
        (ROW, {'label_map': {0: 0, 255: 1, 1: 255}}, [0, 1, 255]),
        (RGB, {'colours': [(9, 0, 0), (0, 0, 7), (5, 5, 5)]}, [1, 0, 255]),
        (ROW, {'reduce_zero_label': True}, [255, 255, 0]),
        (np.array([[0, 7, 1]] * 2, np.uint8), {'ignore_index': 7}, [0, 255, 1]),
        (ROW, {'label_map': {0: 0, 255: -100, 1: 1}, 'ignore_index': -100}, [0, 255, 1]),
    ],
)
def test_masks_become_indices(
    tmp_path: Path, values: Any, options: dict[str, Any], expected: list[int]
) -> None:
    write_pair(tmp_path, values)
    list(convert_data(masks_config(tmp_path, **options), tmp_path / 'out'))
    with Image.open(tmp_path / 'out/annotations/training/ulm/a.b.png') as mask:
        assert mask.mode == 'L'
        assert np.asarray(mask).tolist() == [expected] * 2
    copied = tmp_path / 'out/images/training/ulm/a.b.jpg'
    assert copied.read_bytes() == (tmp_path / 'i/ulm/a.b.jpg').read_bytes()


def test_masks_of_many_classes_have_16_bits(tmp_path: Path) -> None:
    write_pair(tmp_path, np.array([[0, 299, 65535]] * 2, np.uint16))
    list(convert_data(masks_config(tmp_path, 300, ignore_index=65535), tmp_path / 'out'))
    with Image.open(tmp_path / 'out/annotations/training/ulm/a.b.png') as mask:
        assert np.asarray(mask).tolist() == [[0, 299, 65535]] * 2


def test_values_that_are_no_class_are_not_written(tmp_path: Path) -> None:
    write_pair(tmp_path, ROW, 'a')
    write_pair(tmp_path, ROW, 'c')
    write_pair(tmp_path, ROW + np.uint8(1), 'b')  # not among the masks opened at the start
    with pytest.raises(ValueError, match=r'b\.png holds values that are no class'):
        list(convert_data(masks_config(tmp_path, scan_masks=2), tmp_path / 'out'))
    assert not (tmp_path / 'out/annotations/training/b.png').exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """Above all not the masks of the config, if OUT is their folder."""
    prefix = {'img_path': 'images/training', 'seg_map_path': 'annotations/training'}
    for new, old in zip(prefix.values(), 'im', strict=True):
        write_pair(tmp_path, ROW)
        (tmp_path / new).parent.mkdir()
        (tmp_path / old).rename(tmp_path / new)
    config = masks_config(tmp_path, data_prefix=prefix, label_map={0: 1, 1: 0, 255: 255})
    with pytest.raises(ValueError, match=r'a\.b\.jpg exists, and nothing is overwritten'):
        list(convert_data(config, tmp_path))
    assert np.asarray(Image.open(tmp_path / 'annotations/training/ulm/a.b.png')).tolist() == (
        ROW.tolist()
    )


@pytest.fixture
def boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Returns a config of VOC files for training, without labels for the test."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    coco_files.write_images(tmp_path)
    content = coco_files.sound()
    part = {
        'type': 'CheckedCocoDataset',
        'data_root': str(tmp_path),
        'ann_file': Path(coco_files.write_voc(tmp_path, content)).name,
        'data_prefix': {'img': 'images'},
        'metainfo': {'classes': coco_files.CLASSES},
    }
    del content['annotations']
    coco_files.write(tmp_path, content, 'test.json')
    test = {**part, 'ann_file': 'annotations/test.json', 'test_mode': True}
    loaders = {'train_dataloader': {'dataset': part}, 'test_dataloader': {'dataset': test}}
    return Config({'default_scope': 'mmdet', **loaders})


def test_boxes_become_the_same_coco_content(boxes: Config, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    lines = list(convert_data(boxes, out))
    assert lines[0] == f'{out}/annotations/train.json: 2 images, 2 objects'
    assert lines[1] == f'{out}/annotations/test.json: 2 images, 0 objects'
    voc = str(tmp_path / boxes.train_dataloader.dataset.ann_file)
    given, _ = read_boxes(voc, image_folder=f'{tmp_path}/images', classes=coco_files.CLASSES)
    assert [one['bbox'] for one in given['annotations']] == [[4, 5, 10, 20], [20, 8, 28, 32]]
    found, notes = read_boxes(f'{out}/annotations/train.json', image_folder=f'{out}/train')
    assert (found, notes) == (given, [])
    assert (out / 'train/a.png').read_bytes() == (tmp_path / 'images/a.png').read_bytes()


def test_two_data_sets_of_one_split_are_not_mixed(boxes: Config, tmp_path: Path) -> None:
    part = boxes.train_dataloader.dataset
    boxes.train_dataloader.dataset = {'type': 'ConcatDataset', 'datasets': [part, part]}
    with pytest.raises(ValueError, match=r'train\.json exists'):
        list(convert_data(boxes, tmp_path / 'out'))
    assert json.loads((tmp_path / 'out/annotations/train.json').read_text())['images']


def test_other_data_sets_are_named(boxes: Config, tmp_path: Path) -> None:
    part = boxes.train_dataloader.dataset
    part.type, part.ann_file = 'CocoDataset', coco_files.write(tmp_path, coco_files.sound())
    with pytest.raises(ValueError, match='CocoDataset cannot be converted: use CheckedCoco'):
        list(convert_data(boxes, tmp_path / 'out'))
