"""Images of any folder tree, pairs with masks, and the transforms on them, by value."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import Compose
from torchvision.tv_tensors import Mask

import vit_dense.pretraining  # noqa: F401 - registers
from vit_dense.apis import load_config
from vit_dense.apis.check_data import all_findings, check_data
from vit_dense.pretraining import (
    BandsPreprocessor,
    FeatureProbe,
    LabelledImages,
    LoadProbeMask,
    PretrainingCheckHook,
    UnlabelledImages,
)

IMAGE = np.random.default_rng(0).integers(70, 256, (40, 60, 3), np.uint8)
LOADED = [{'type': 'LoadImageFromFile'}, {'type': 'PackImage'}]
V2 = 'torchvision.transforms.v2'


def write(path: Path, image: np.ndarray = IMAGE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)
    return path


def unlabelled(*folders: Path, **options: Any) -> UnlabelledImages:
    return UnlabelledImages([str(one) for one in folders], serialize_data=False, **options)


def test_all_images_below_the_folders_are_listed_once(tmp_path: Path) -> None:
    expected = [
        write(tmp_path / 'one/deep/er/a.jpg'),
        write(tmp_path / 'one/b.PNG'),
        write(tmp_path / 'two/a.jpg'),
    ]
    write(tmp_path / 'one/.hidden/c.png')
    (tmp_path / 'one/labels.txt').write_text('1 2 3')
    (tmp_path / 'two/again').symlink_to(tmp_path / 'one/deep')
    dataset = unlabelled(tmp_path / 'one', tmp_path / 'two')
    listed = [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]
    assert sorted(Path(one).resolve() for one in listed) == sorted(expected)
    one_ending = unlabelled(tmp_path / 'one', img_suffix='.PNG').data_list
    assert one_ending == [{'img_path': str(tmp_path / 'one/b.PNG')}]


def test_masks_among_the_images_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[str] = []
    place = 'vit_dense.pretraining.dataset.print_log'
    monkeypatch.setattr(place, lambda text, *_, **__: reported.append(text))
    for name in ('2023/a.jpg', '2024/a.jpg', '2024/b.jpg'):  # as of two cameras
        write(tmp_path / name)
    unlabelled(tmp_path)
    assert not reported
    mask = write(tmp_path / 'masks/b.png', IMAGE[..., 0])
    unlabelled(tmp_path)
    (text,) = reported
    assert str(mask) in text
    assert 'name folders without masks in data_root' in text
    mask.unlink()
    write(tmp_path / 'images/c.png')
    write(tmp_path / 'labels/c.png', IMAGE[..., 0])  # differs in the mode alone
    unlabelled(tmp_path)
    assert 'labels/c.png' in reported[1]


def test_order_does_not_depend_on_the_file_system(tmp_path: Path) -> None:
    for name in ('c', 'a', 'b'):
        write(tmp_path / f'{name}.png')
    paths = [info['img_path'] for info in unlabelled(tmp_path).data_list]
    assert paths == [str(tmp_path / f'{name}.png') for name in 'abc']


@pytest.mark.parametrize(
    'message', ['No image in .*empty; found there: 1 .txt', 'empty does not exist']
)
def test_a_folder_without_images_is_named(message: str, tmp_path: Path) -> None:
    write(tmp_path / 'full/a.png')
    empty = tmp_path / 'empty'
    if 'found' in message:
        empty.mkdir()
        (empty / 'labels.txt').write_text('1 2 3')
    with pytest.raises(ValueError, match=message):
        unlabelled(tmp_path / 'full', empty)


def test_damaged_images_are_named_or_passed_over(tmp_path: Path) -> None:
    for index in range(3):
        write(tmp_path / f'{index}.png')
    (tmp_path / '1.png').write_bytes(b'')
    with pytest.raises(ValueError, match=r'1.png: the file is empty .*bad_files'):
        unlabelled(tmp_path, pipeline=LOADED)[1]
    sample = unlabelled(tmp_path, pipeline=LOADED, bad_files='skip')[1]
    assert Path(sample['data_samples'].img_path).name in ('0.png', '2.png')


def test_check_reads_the_images_of_a_config(tmp_path: Path) -> None:
    for index in range(2):
        write(tmp_path / f'{index}.png', IMAGE + np.uint8(index))
    (tmp_path / 'bad.png').write_bytes(b'no image')
    leaf = 'vit_dense::pretraining/mae_vit-t8-cpu_1xb32-200e_images-128x128.py'
    config = load_config(leaf, cfg_options={'data_root': str(tmp_path)})
    (source,) = check_data(config, workers=1)
    assert len(source.images) == 3
    (found,) = all_findings([source])
    assert (found.problem, found.count) == ('files cannot be loaded', 1)
    assert found.examples[0][0].endswith('bad.png')


def labelled(root: Path, **options: Any) -> LabelledImages:
    prefix = {'img_path': 'images', 'seg_map_path': 'masks'}
    given = {'data_root': str(root), 'data_prefix': prefix, 'serialize_data': False, **options}
    return LabelledImages(**given)


def test_images_are_paired_with_masks(tmp_path: Path) -> None:
    mask = np.arange(40 * 60, dtype=np.uint8).reshape(40, 60) % 3
    mask[:2] = 255
    write(tmp_path / 'images/deep/a.jpg')
    write(tmp_path / 'masks/deep/a.png', mask)
    steps = [LOADED[0], {'type': 'LoadProbeMask', 'label_map': {0: 5, 1: 1, 2: 2, 255: 255}}]
    labels = labelled(tmp_path, pipeline=[*steps, LOADED[1]])[0]['data_samples'].labels
    assert labels.dtype == torch.int64
    assert (labels[:2] == -1).all()
    assert torch.equal(labels[2:] % 5, torch.from_numpy(mask[2:]).long())


def test_images_without_masks_are_named(tmp_path: Path) -> None:
    write(tmp_path / 'images/a.jpg')
    (tmp_path / 'masks').mkdir()
    with pytest.raises(ValueError, match=r'1 of 1 images have no mask.*\n.*a.jpg needs .*a.png'):
        labelled(tmp_path)
    with pytest.raises(ValueError, match=r'the folder .*nowhere/images does not exist'):
        labelled(tmp_path / 'nowhere')


def test_a_mask_of_another_size_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / 'a.png', np.zeros((40, 50), np.uint8))
    sample = {'img_path': 'a.jpg', 'seg_map_path': str(path), 'ori_shape': (40, 60)}
    with pytest.raises(ValueError, match=r'a.png has 50x40 pixels, its image a.jpg has 60x40'):
        LoadProbeMask().transform(sample)


def test_masks_of_the_probe_are_loaded_before_the_training(tmp_path: Path) -> None:
    for index in range(20):
        write(tmp_path / f'images/{index:02}.jpg')
        write(tmp_path / f'masks/{index:02}.png', np.eye(40, 60, dtype=np.uint8))
    steps = [LOADED[0], {'type': 'LoadProbeMask', 'label_map': {0: 1, 1: 0}}, LOADED[1]]
    dataset = labelled(tmp_path, pipeline=steps, test_mode=True)
    PretrainingCheckHook().check_metric(FeatureProbe(), dataset, 'validation')
    for index in range(12, 18):
        write(tmp_path / f'masks/{index:02}.png', np.full((40, 60), 7, np.uint8))
    with pytest.raises(ValueError, match=r'The mask .*png holds the value 7'):
        PretrainingCheckHook().check_metric(FeatureProbe(), dataset, 'validation')


@pytest.mark.parametrize('bands', [1, 3, 5])
def test_a_flip_turns_all_bands_and_the_mask(bands: int) -> None:
    image = np.random.default_rng(0).random((6, 8, bands)).astype(np.float32)
    mask = np.arange(48).reshape(6, 8)
    flip = {'type': f'{V2}.RandomHorizontalFlip', 'p': 1.0}
    steps = Compose([{'type': f'{V2}.ToImage'}, flip, {'type': 'PackImage'}])
    packed = steps({'img': image.copy(), 'gt_seg_map': Mask(mask.copy()), 'img_path': 'a.png'})
    for found in (packed['inputs'], packed['data_samples'].labels):
        assert type(found) is torch.Tensor
    np.testing.assert_array_equal(packed['inputs'], image[:, ::-1].transpose(2, 0, 1))
    np.testing.assert_array_equal(packed['data_samples'].labels, mask[:, ::-1])


def test_a_crop_is_that_of_the_seed_and_the_same_for_the_mask() -> None:
    crop = {'type': f'{V2}.RandomResizedCrop', 'size': 16, 'scale': (0.2, 1.0), 'interpolation': 0}
    steps = Compose([{'type': f'{V2}.ToImage'}, crop])
    image = np.arange(40 * 60, dtype=np.float32).reshape(40, 60, 1)

    def run(seed: int) -> dict:
        torch.manual_seed(seed)
        return steps({'img': image.copy(), 'gt_seg_map': Mask(image[..., 0].astype(np.int64))})

    first, again, other = run(0), run(0), run(1)
    assert first['img'].shape == (1, 16, 16)
    np.testing.assert_array_equal(first['img'][0], first['gt_seg_map'])
    np.testing.assert_array_equal(first['img'], again['img'])
    assert (first['img'] != other['img']).any()


@pytest.mark.parametrize('bands', [3, 5])
def test_every_band_has_its_mean_and_three_are_reversed(bands: int) -> None:
    mean, std = torch.arange(1.0, bands + 1), torch.arange(2.0, bands + 2)
    image = torch.randint(0, 256, (bands, 4, 4), dtype=torch.uint8)
    preprocessor = BandsPreprocessor(mean.tolist(), std.tolist())
    found = preprocessor({'inputs': [image]})['inputs'][0]
    ordered = image.flip(0) if bands == 3 else image
    expected = (ordered - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
    torch.testing.assert_close(found, expected)
    assert not preprocessor.state_dict()
