"""The checked data sets: what they accept, and the one message for each mistake."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS

from examples.streets import CLASSES, PALETTE, DemoSpec, write_demo_dataset

Make = Callable[..., dict[str, Any]]
CONFIGS = Path(__file__).parents[2] / 'configs'
PIPELINE = [
    {'type': 'LoadImageFromFile'},
    {'type': 'LoadAnnotations'},
    {'type': 'PackSegInputs'},
]


def build(config: dict[str, Any]) -> Any:
    with DATASETS.switch_scope_and_registry('mmseg') as registry:
        return registry.build(config)


def write_mask(root: Path, values: np.ndarray, name: str = '1', split: str = 'training') -> str:
    path = str(root / 'annotations' / split / f'{name}.png')
    cv2.imwrite(path, values)
    return path


def test_a_sound_folder_loads(dataset_config: Make) -> None:
    dataset = build(dataset_config())
    assert len(dataset) == 4
    sample = dataset[0]
    assert sample['inputs'].shape == (3, 40, 48)
    assert set(sample['data_samples'].gt_sem_seg.data.unique().tolist()) == {0, 1, 2, 255}


def test_missing_root(dataset_config: Make, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='Data set not found') as error:
        build(dataset_config(data_root=str(tmp_path / 'nowhere')))
    assert 'make demo' in str(error.value)


def test_missing_ade20k_says_where_it_comes_from(tmp_path: Path) -> None:
    prefix = {'img_path': 'images/training', 'seg_map_path': 'annotations/training'}
    config = {
        'type': 'CheckedADE20KDataset',
        'data_root': str(tmp_path / 'ade'),
        'data_prefix': prefix,
    }
    with pytest.raises(ValueError, match=r'ADEChallengeData2016\.zip') as error:
        build(config)
    assert 'images/training/*.jpg' in str(error.value)
    # A variable of an inherited config is read where it is defined: data_root alone does nothing.
    assert 'dataset=dict(data_root=...) in train_dataloader' in str(error.value)


def test_wrong_suffix(dataset_config: Make) -> None:
    with pytest.raises(ValueError, match=r"'\.jpg'.*4 \.png"):
        build(dataset_config(img_suffix='.jpg'))


def test_image_without_mask(dataset_config: Make, data_root: Path) -> None:
    (data_root / 'annotations/training/2.png').unlink()
    with pytest.raises(ValueError, match=r'1 of 4 images have no mask(.|\n)*2\.png'):
        build(dataset_config())


def test_value_outside_the_classes_is_found_when_built(
    dataset_config: Make, data_root: Path
) -> None:
    path = write_mask(data_root, np.full((40, 48), 3, np.uint8))
    with pytest.raises(ValueError, match='reduce_zero_label=True') as error:
        build(dataset_config())
    assert path in str(error.value)


def test_value_outside_the_classes_is_found_when_loaded(
    dataset_config: Make, data_root: Path
) -> None:
    path = write_mask(data_root, np.full((40, 48), 77, np.uint8))
    dataset = build(dataset_config(scan_masks=0))
    with pytest.raises(ValueError, match='holds the value 77; with 3 classes') as error:
        dataset[1]
    assert path in str(error.value)


def test_reduce_zero_label_reports_values_of_the_file(
    dataset_config: Make, data_root: Path
) -> None:
    write_mask(data_root, np.full((40, 48), 4, np.uint8))
    for name in ('0', '2', '3'):
        write_mask(data_root, np.ones((40, 48), np.uint8), name)
    with pytest.raises(ValueError, match='the value 4; with 3 classes'):
        build(dataset_config(reduce_zero_label=True))
    dataset = build(dataset_config(reduce_zero_label=True, scan_masks=0))
    assert dataset[0]['data_samples'].gt_sem_seg.data.unique().tolist() == [0]
    with pytest.raises(ValueError, match='the value 4; with 3 classes'):
        dataset[1]


def test_coloured_mask(dataset_config: Make, data_root: Path) -> None:
    write_mask(data_root, np.zeros((40, 48, 3), np.uint8))
    with pytest.raises(ValueError, match='3 channels'):
        build(dataset_config())
    dataset = build(dataset_config(scan_masks=0))
    with (
        pytest.warns(UserWarning, match='2D'),
        pytest.raises(ValueError, match='convert colours to indices'),
    ):
        dataset[1]


@pytest.mark.parametrize('channels', [1, 4])
def test_grayscale_and_rgba_images_work(
    dataset_config: Make, data_root: Path, channels: int
) -> None:
    grey = np.arange(40 * 48, dtype=np.uint16).reshape(40, 48) % 251
    image = np.repeat(grey[..., None].astype(np.uint8), channels, 2).squeeze()
    if channels == 4:
        image[..., 3] = 7
    path = str(data_root / 'images/training/0.png')
    cv2.imwrite(path, image)
    assert cv2.imread(path, cv2.IMREAD_UNCHANGED).shape == image.shape
    inputs = build(dataset_config())[0]['inputs']
    for channel in inputs:
        np.testing.assert_array_equal(channel, grey)


def test_image_below_32_pixels(dataset_config: Make, data_root: Path) -> None:
    cv2.imwrite(str(data_root / 'images/training/3.png'), np.zeros((20, 48, 3), np.uint8))
    write_mask(data_root, np.zeros((20, 48), np.uint8), '3')
    dataset = build(dataset_config())
    with pytest.raises(ValueError, match=r'3\.png reaches the model with 20x48 pixels.*32x32'):
        dataset[3]


@pytest.mark.parametrize('test_mode', [False, True])
def test_classes_are_required(dataset_config: Make, test_mode: bool) -> None:
    with pytest.raises(ValueError, match='metainfo=dict'):
        build(dataset_config(metainfo=None, test_mode=test_mode))


def test_images_alone_can_be_tested(dataset_config: Make) -> None:
    pipeline = [{'type': 'LoadImageFromFile'}, {'type': 'PackSegInputs'}]
    prefix = {'img_path': 'images/validation'}
    dataset = build(dataset_config(data_prefix=prefix, pipeline=pipeline, test_mode=True))
    assert dataset[0]['inputs'].shape == (3, 40, 48)


def test_the_demo_config_reads_the_drawn_streets(tmp_path: Path) -> None:
    root = write_demo_dataset(tmp_path / 'demo', DemoSpec(2, 1, 64, 80))
    config = Config.fromfile(CONFIGS / 'vit_upernet_demo.py')
    dataset = build(
        config.train_dataloader.dataset | {'data_root': str(root), 'pipeline': PIPELINE}
    )
    assert len(dataset) == 2
    assert dataset[0]['inputs'].shape == (3, 64, 80)
    assert dataset.metainfo['classes'] == CLASSES
    assert dataset.metainfo['palette'] == [list(colour) for colour in PALETTE]


def test_missing_demo_data_name_the_command_that_writes_them(tmp_path: Path) -> None:
    config = Config.fromfile(CONFIGS / 'vit_upernet_demo.py')
    missing = config.val_dataloader.dataset | {'data_root': str(tmp_path / 'demo')}
    with pytest.raises(ValueError, match=r'make demo.*python -m examples\.streets --out'):
        build(missing)
