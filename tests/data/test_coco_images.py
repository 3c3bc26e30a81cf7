"""Images that are listed wrongly, damaged or turned by EXIF, in one message each."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from coco_files import sound, write_images
from PIL import Image

from vit_dense.data.coco_images import check_images
from vit_dense.data.files import picture_size


def named(name: str) -> dict[str, Any]:
    content = sound()
    content['images'][1]['file_name'] = name
    return content


@pytest.mark.parametrize(
    ('name', 'prefix', 'advice'),
    [
        ('images\\b.png', '.', 'write / for \\ in file_name.'),
        ('images/b.png', 'images', 'set data_prefix=dict(img=...) to the folder {root}'),
        ('train/b.png', 'images', "remove 'train' from file_name."),
        ('C:\\data\\b.png', 'images', "write / for \\ in file_name, and remove 'C:/data' from"),
        ('c.png', 'images', 'Put them there, or set data_prefix=dict(img=...)'),
    ],
)
def test_missing_images_are_looked_for(tmp_path: Path, name: str, prefix: str, advice: str) -> None:
    write_images(tmp_path)
    content = named(name)
    content['images'] = content['images'][1:]
    with pytest.raises(ValueError, match=r'images that train\.json lists are missing') as error:
        check_images('train.json', content, str(tmp_path / prefix))
    message = str(error.value)
    assert advice.format(root=tmp_path) in message
    assert (f'{tmp_path / "images" / "b.png"} is there' in message) == (name != 'c.png')


def test_an_image_listed_twice(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'the image a\.png twice, with the ids 1 and 2') as error:
        check_images('train.json', named('a.png'), write_images(tmp_path))
    assert 'Give their annotations one image_id' in str(error.value)


@pytest.mark.parametrize(
    ('content', 'problem'),
    [
        (b'', 'is empty'),
        (b'<!DOCTYPE html><html></html>', 'web page'),
        (None, 'cut off'),
    ],
)
def test_damaged_files(tmp_path: Path, content: bytes | None, problem: str) -> None:
    folder, file = write_images(tmp_path), tmp_path / 'images' / 'b.png'
    jpeg = cv2.imencode('.jpg', cv2.imread(str(file)))[1].tobytes()
    file.write_bytes(jpeg[:-60] if content is None else content)
    with pytest.raises(ValueError, match=rf'b\.png: .*{problem}.*from train\.json') as error:
        check_images('train.json', sound(), folder)
    assert 'Replace it' in str(error.value)
    check_images('train.json', sound(), folder, limit=1)
    check_images('train.json', sound(), folder, skip_damaged=True)


def test_an_image_that_readers_could_not_open(tmp_path: Path) -> None:
    folder, content = write_images(tmp_path), sound()
    content['images'][1].update(width=0, height=0)
    (tmp_path / 'images' / 'b.png').write_text('no image')
    with pytest.raises(ValueError, match=r'b\.png is no image that can be opened'):
        check_images('train.json', content, folder, limit=1)


RAW = 'color_ignore_orientation'


@pytest.mark.parametrize('ending', ['.jpg', '.png', '.tif'])
def test_size_as_opencv_loads_it(tmp_path: Path, ending: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # held upright: a quarter turn
    path = str(tmp_path / f'a{ending}')
    Image.new('RGB', (48, 40)).save(path, exif=exif)
    flags = {
        'color': cv2.IMREAD_COLOR,
        'unchanged': cv2.IMREAD_UNCHANGED,
        RAW: cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION,
    }
    for color_type, flag in flags.items():
        content = np.fromfile(path, np.uint8)
        height, width = cv2.imdecode(content, flag).shape[:2]
        assert picture_size(path, color_type) == (width, height)


def test_color_type_decides_which_size_is_right(tmp_path: Path) -> None:
    folder, content = write_images(tmp_path), named('b.jpg')
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((40, 48, 3), np.uint8)).save(tmp_path / 'images/b.jpg', exif=exif)
    check_images('train.json', content, folder, color_type=RAW)
    with pytest.raises(ValueError, match=rf"has 40x48 .* says 48x40.*color_type='{RAW}'"):
        check_images('train.json', content, folder)
    content['images'][1].update(width=40, height=48)
    check_images('train.json', content, folder)
    with pytest.raises(ValueError, match=r"has 48x40 .* says 40x48.*color_type='color'"):
        check_images('train.json', content, folder, color_type=RAW)
