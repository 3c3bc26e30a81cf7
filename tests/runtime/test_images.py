"""Reading images: every format that users have, and one line about what cannot be read."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from vit_dense.runtime.images import as_image, read_image

RNG = np.random.default_rng(0)
PIXELS = cv2.resize(RNG.integers(0, 256, (4, 6, 3), np.uint8), (60, 40))  # BGR


def encoded(suffix: str, picture: np.ndarray = PIXELS) -> bytes:
    return cv2.imencode(suffix, picture)[1].tobytes()


def test_colour_is_bgr(tmp_path: Path) -> None:
    Image.fromarray(PIXELS[..., ::-1].copy()).save(tmp_path / 'a.png')
    assert (read_image(tmp_path / 'a.png') == PIXELS).all()


@pytest.mark.parametrize(
    ('picture', 'expected'),
    [
        (PIXELS[..., 0], np.repeat(PIXELS[..., :1], 3, axis=2)),
        (np.dstack([PIXELS, PIXELS[..., 0]]), PIXELS),
        (PIXELS.astype(np.uint16) * 257, PIXELS),
        (PIXELS[:1, :1], PIXELS[:1, :1]),
        (np.tile(PIXELS[:2], (1, 500, 1)), np.tile(PIXELS[:2], (1, 500, 1))),
    ],
    ids=['grey', 'alpha', '16 bits', 'one pixel', '30000 pixels wide'],
)
def test_what_opencv_converts(tmp_path: Path, picture: np.ndarray, expected: np.ndarray) -> None:
    (tmp_path / 'a.png').write_bytes(encoded('.png', picture))
    assert (read_image(tmp_path / 'a.png') == expected).all()


def test_orientation_and_cmyk(tmp_path: Path) -> None:
    rgb = Image.fromarray(PIXELS[..., ::-1].copy())
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb.save(tmp_path / 'turned.jpg', exif=exif, quality=100, subsampling=0)
    turned = read_image(tmp_path / 'turned.jpg').astype(int)
    assert turned.shape == (60, 40, 3)
    assert abs(turned - np.rot90(PIXELS, -1)).mean() < 3
    rgb.convert('CMYK').save(tmp_path / 'cmyk.jpg', quality=100)
    assert abs(read_image(tmp_path / 'cmyk.jpg').astype(int) - PIXELS).mean() < 12


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('a.jpg', b'', r'empty \(0 bytes\)'),
        ('a.jpg', b'\n<!DOCTYPE html><html></html>', 'web page'),
        ('a.jpg', encoded('.jpg')[:-40], 'cut off'),
        ('a.jpg', encoded('.jpg')[:30], 'cut off'),
        ('a.png', encoded('.png')[:-40], 'OpenCV cannot read'),
        ('a.tif', encoded('.tif')[:-40], 'OpenCV cannot read'),
        ('a.tif', encoded('.tif', PIXELS.astype(np.float32)), 'more than 16 bits'),
        ('a.jpg', b'\x00\x01\x02' * 99, 'OpenCV cannot read'),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_image(path)
    assert str(caught.value).startswith(str(path))
    assert '\n' not in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='No such file'):
        read_image(tmp_path / 'absent.jpg')


def test_a_thumbnail_does_not_hide_a_cut(tmp_path: Path) -> None:
    """The end marker of a thumbnail, before the image, is not that of the image."""
    whole = encoded('.jpg')
    segment = b'\xff\xe1' + (len(whole) + 2).to_bytes(2, 'big') + whole
    (tmp_path / 'a.jpg').write_bytes(whole[:2] + segment + whole[2:])
    assert read_image(tmp_path / 'a.jpg').shape == PIXELS.shape
    (tmp_path / 'a.jpg').write_bytes(whole[:2] + segment + whole[2:-40])
    with pytest.raises(ValueError, match='cut off'):
        read_image(tmp_path / 'a.jpg')


def test_arrays() -> None:
    assert (as_image(PIXELS) == PIXELS).all()
    assert (as_image(PIXELS[..., ::-1], channel_order='rgb') == PIXELS).all()
    assert (as_image(np.dstack([PIXELS, PIXELS[..., 0]])) == PIXELS).all()
    assert (as_image(PIXELS[..., 0]) == np.repeat(PIXELS[..., :1], 3, axis=2)).all()
    four = np.zeros((5, 5, 4), np.float32)
    assert as_image(four, channels=4) is four


@pytest.mark.parametrize(
    ('array', 'message'),
    [
        (PIXELS / 255, 'float64.*astype'),
        (PIXELS.astype(np.uint16), 'uint16'),
        (np.zeros((4, 4, 2), np.uint8), '1, 3 or 4 channels'),
        (np.zeros((0, 4, 3), np.uint8), 'got \\(0, 4, 3\\)'),
        (np.zeros(4, np.uint8), 'got \\(4,\\)'),
    ],
)
def test_arrays_that_are_no_images(array: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_image(array)
    with pytest.raises(ValueError, match='4 channels'):
        as_image(PIXELS, channels=4)
