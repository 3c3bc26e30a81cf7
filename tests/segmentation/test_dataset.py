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
    assert 'set data_root in your config' in str(error.value)
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
    with pytest.raises(ValueError, match=r'colours=\[\(0, 0, 0\)\]'):
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


def test_one_string_is_no_tuple_of_classes(dataset_config: Make, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"classes='crack' is neither .*classes=\('crack',\)"):
        build(dataset_config(metainfo={'classes': 'crack'}))
    (tmp_path / 'names.txt').write_text('road\nsky\ncar\n')
    dataset = build(dataset_config(metainfo={'classes': str(tmp_path / 'names.txt')}))
    assert dataset.metainfo['classes'] == ['road', 'sky', 'car']


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


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is logged as a warning."""
    lines: list[str] = []
    monkeypatch.setattr(
        'vit_dense.segmentation.dataset.print_log', lambda text, **_: lines.append(text)
    )
    return lines


def test_images_of_any_ending_are_used_by_default(dataset_config: Make, data_root: Path) -> None:
    images = data_root / 'images/training'
    (images / '1.png').rename(images / '1.PNG')
    picture = cv2.imread(str(images / '2.png'))
    (images / '2.png').unlink()
    cv2.imwrite(str(images / '2.jpeg'), picture)
    dataset = build(dataset_config(img_suffix=None))
    names = [Path(dataset.get_data_info(index)['img_path']).name for index in range(4)]
    assert names == ['0.png', '1.PNG', '2.jpeg', '3.png']


def test_images_dropped_for_their_ending(dataset_config: Make, data_root: Path) -> None:
    images = data_root / 'images/training'
    (images / '1.png').rename(images / '1.PNG')
    with pytest.raises(ValueError, match=r"'\.png' passes over images .*1\.PNG.*img_suffix=None"):
        build(dataset_config())
    assert len(build(dataset_config(img_suffix=['.png', '.PNG']))) == 4
    (images / '1.PNG').rename(images / 'depth.tif')  # no image that has a mask
    assert len(build(dataset_config())) == 3


def test_masks_without_image_are_counted(
    dataset_config: Make, data_root: Path, warnings: list[str]
) -> None:
    for name in '13':
        (data_root / f'images/training/{name}.png').unlink()
    assert len(build(dataset_config())) == 2
    assert len(warnings) == 1
    assert '2 masks in' in warnings[0]
    assert '1.png: they are not used' in warnings[0]


def test_a_class_in_no_mask(dataset_config: Make, data_root: Path, warnings: list[str]) -> None:
    for name in '0123':
        write_mask(data_root, np.full((40, 48), 2, np.uint8), name)
    build(dataset_config())
    assert len(warnings) == 1
    assert 'holds road, sky: ' in warnings[0]
    build(dataset_config(scan_masks=3))  # the fourth may hold them
    assert len(warnings) == 1
    build(dataset_config(reduce_zero_label=True))
    assert 'holds road, car: ' in warnings[1]


@pytest.mark.parametrize('names', [('background', 'road'), ('background', 'road', 'sky')])
def test_black_and_white_masks(
    dataset_config: Make, data_root: Path, names: tuple[str, ...]
) -> None:
    for name in '0123':
        write_mask(data_root, 255 * np.eye(40, 48, dtype=np.uint8), name)
    config = dataset_config(metainfo={'classes': names})
    if len(names) == 2:
        with pytest.raises(ValueError, match=r'label_map=\{0: 0, 255: 1\}'):
            build(config)
    else:
        build(config)
    mapped = build({**config, 'label_map': {0: 0, 255: 1}})
    assert mapped[0]['data_samples'].gt_sem_seg.data.sum() == 40
    void = build({**config, 'label_map': {0: 0, 1: 1, 255: 255}})
    assert set(void[0]['data_samples'].gt_sem_seg.data.unique().tolist()) == {0, 255}


def test_lists_of_names(dataset_config: Make, data_root: Path) -> None:
    path = data_root / 'train.txt'
    path.write_bytes(b'training/3.png\r\n\r\n/data/1\tannotations/2.png\r\n')
    dataset = build(dataset_config(ann_file='train.txt'))
    found = [dataset.get_data_info(index) for index in range(2)]
    names = [(Path(one['img_path']).name, Path(one['seg_map_path']).name) for one in found]
    assert names == [('3.png', '3.png'), ('1.png', '2.png')]
    path.write_text('3\tx/none.png\n1.png\n')
    with pytest.raises(
        ValueError, match=r'1 of 2 images have no mask(.|\n)*3\.png needs .*none\.png'
    ):
        build(dataset_config(ann_file='train.txt'))
    path.write_text('3\nnine\n')
    with pytest.raises(ValueError, match=r"1 names in .*train\.txt have no image.*'nine'"):
        build(dataset_config(ann_file='train.txt'))


@pytest.mark.parametrize('kind', ['images', 'annotations'])
def test_files_that_vanish(
    dataset_config: Make, data_root: Path, kind: str, warnings: list[str]
) -> None:
    dataset = build(dataset_config())
    skipping = build(dataset_config(bad_files='skip'))
    (data_root / kind / 'training/1.png').unlink()
    with pytest.raises(ValueError, match=rf'{kind}/training/1\.png: No such file'):
        dataset[1]
    assert skipping[1]['data_samples'].img_path != dataset.get_data_info(1)['img_path']


def test_bad_masks_are_passed_over_when_scanned(
    dataset_config: Make, data_root: Path, warnings: list[str]
) -> None:
    Path(write_mask(data_root, np.zeros((40, 48), np.uint8))).write_bytes(b'')
    with pytest.raises(ValueError, match=r'1\.png: the file is empty'):
        build(dataset_config())
    dataset = build(dataset_config(bad_files='skip'))
    assert dataset[1]['data_samples'].img_path != dataset.get_data_info(1)['img_path']


def test_colours_of_all_scanned_masks_are_proposed(dataset_config: Make, data_root: Path) -> None:
    for name, colour in zip('0123', [(0, 0, 0), (0, 0, 9), (0, 8, 0), (0, 0, 9)], strict=True):
        write_mask(data_root, np.full((40, 48, 3), colour, np.uint8), name)
    with pytest.raises(ValueError, match=r'colours=\[\(0, 0, 0\), \(0, 8, 0\), \(9, 0, 0\)\]'):
        build(dataset_config())
