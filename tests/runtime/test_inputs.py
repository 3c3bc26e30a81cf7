"""What users may name as images, and what the images are called."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from vit_dense.runtime.images import read_image
from vit_dense.runtime.inputs import expand, is_single


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ('b/2.jpg', 'b/.hidden.jpg', 'a/1.PNG', '3.tif', 'notes.txt', '.cache/4.png'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_a_folder_with_its_sub_folders(folder: Path) -> None:
    assert sorted(item.name for item in expand(folder)) == ['3.tif', 'a/1.PNG', 'b/2.jpg']
    assert all(Path(str(item.path)).is_file() for item in expand(str(folder)))


def test_patterns_keep_sub_folders(folder: Path) -> None:
    assert [item.name for item in expand(f'{folder}/*/*.*')] == ['a/1.PNG', 'b/2.jpg']
    assert [item.name for item in expand(f'{folder}/**/*.jpg')] == ['b/2.jpg']


def test_a_file_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    (tmp_path / 'a[1].jpg').touch()
    assert [item.name for item in expand(tmp_path / 'a[1].jpg')] == ['a[1].jpg']


def test_lists_arrays_and_pillow(folder: Path) -> None:
    rgb = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    items = list(expand([folder / '3.tif', rgb, Image.fromarray(rgb)]))
    assert [item.name for item in items] == ['3.tif', '1', '2']
    assert items[1].channel_order is None
    assert items[2].channel_order == 'rgb'
    assert (items[2].array == rgb).all()


def test_pillow_is_turned_as_files_are() -> None:
    image = Image.fromarray(np.zeros((2, 5, 3), np.uint8))
    image.getexif()[0x0112] = 6
    (item,) = expand(image)
    assert item.array is not None
    assert item.array.shape == (5, 2, 3)


def test_what_is_single(folder: Path) -> None:
    assert is_single(folder / '3.tif')
    assert is_single('absent.jpg')
    assert is_single(np.zeros((2, 2)))
    assert not is_single(folder)
    assert not is_single(f'{folder}/*')
    assert not is_single([folder / '3.tif'])


def test_nothing_found(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='no image in this folder'):
        list(expand(tmp_path))
    with pytest.raises(ValueError, match='no file matches'):
        list(expand(f'{tmp_path}/*.jpg'))
    for value in (3, {'a.jpg': 1}, torch.zeros(3, 4, 4)):
        with pytest.raises(ValueError, match=f'got {type(value).__name__}'):
            list(expand(value))


def test_pillow_of_16_bits_is_reduced_as_files_are(tmp_path: Path) -> None:
    values = np.array([[0, 255, 256, 300, 25700, 65535]], np.uint16)
    cv2.imwrite(str(tmp_path / '1.png'), values)
    (item,) = expand(Image.fromarray(values))
    assert item.array is not None
    assert item.array[0, :, 0].tolist() == [0, 0, 1, 1, 100, 255]
    assert (item.array == read_image(tmp_path / '1.png')).all()


@pytest.mark.parametrize('kind', [np.float32, np.int32])
def test_pillow_of_unknown_range_is_refused(kind: type) -> None:
    with pytest.raises(ValueError, match='8 or 16 bits; got mode'):
        list(expand(Image.fromarray(np.full((2, 2), 1, kind))))


def test_a_pattern_does_not_follow_links_back(tmp_path: Path) -> None:
    (tmp_path / 'in/a').mkdir(parents=True)
    (tmp_path / 'other').mkdir()
    (tmp_path / 'in/a/1.png').touch()
    (tmp_path / 'other/2.png').touch()
    (tmp_path / 'in/a/loop').symlink_to('..')
    (tmp_path / 'in/link').symlink_to('../other')
    names = [item.name for item in expand(f'{tmp_path}/in/**/*.png')]
    assert names == ['a/1.png', 'link/2.png']
