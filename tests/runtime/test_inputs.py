"""What users may name as images, and what the images are called."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
    with pytest.raises(ValueError, match='got int'):
        list(expand(3))
