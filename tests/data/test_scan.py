"""What is read from single image and mask files."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from vit_dense.data.duplicates import find_copies, find_similar
from vit_dense.data.masks import read_mask
from vit_dense.data.scan import Array, Scan, scan_image, scan_mask


def read(path: str) -> Array:
    image = cv2.imread(path, cv2.IMREAD_COLOR)
    assert image is not None, 'not decoded'
    return image


def texture(seed: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Returns a smooth RGB picture of random colours."""
    cells = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(cv2.resize(cells, size, interpolation=cv2.INTER_LINEAR))


def test_statistics_are_those_of_all_pixels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    path = str(tmp_path / 'a.png')
    cv2.imwrite(path, pixels)
    found = scan_image(path, read)
    assert (found.size, found.mode, found.orientation, found.error) == (
        (50, 40),
        'RGB, 8 bits',
        1,
        '',
    )
    np.testing.assert_allclose(found.mean, pixels.mean((0, 1)))
    np.testing.assert_allclose(found.square, (pixels.astype(float) ** 2).mean((0, 1)))


@pytest.mark.parametrize('channels', [1, 2, 6])
def test_any_number_of_channels(tmp_path: Path, channels: int) -> None:
    pixels = np.random.default_rng(0).uniform(0, 9, (40, 50, channels)).astype(np.float32)
    np.save(tmp_path / 'a.npy', pixels)
    found = scan_image(str(tmp_path / 'a.npy'), np.load)
    assert (found.size, found.mode) == ((50, 40), 'float32')
    np.testing.assert_allclose(found.mean, pixels.mean((0, 1)), rtol=1e-5)


@pytest.mark.parametrize(
    ('name', 'mode', 'expected'),
    [
        ('a.png', 'L', 'L, 8 bits'),
        ('a.png', 'I;16', 'I;16, 16 bits'),
        ('a.tif', 'I;16', 'I;16, 16 bits'),
        ('a.jpg', 'CMYK', 'CMYK, 8 bits'),
        ('a.png', '1', '1, 1 bits'),
    ],
)
def test_mode_and_bits(tmp_path: Path, name: str, mode: str, expected: str) -> None:
    picture = Image.new(mode, (40, 36))
    picture.save(tmp_path / name)
    assert scan_image(str(tmp_path / name), read).mode == expected


def test_exif_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    texture(0).save(tmp_path / 'a.jpg', exif=exif)
    found = scan_image(str(tmp_path / 'a.jpg'), read)
    assert (found.orientation, found.size) == (6, (48, 64))


@pytest.mark.parametrize('ending', ['jpg', 'png'])
@pytest.mark.parametrize(
    ('fault', 'reason'),
    [
        ('missing', 'No such file'),
        ('empty', '0 bytes'),
        ('cut', 'cut off'),
        ('html', 'HTML'),
        ('noise', 'not decoded'),
    ],
)
def test_broken_files_are_named(tmp_path: Path, ending: str, fault: str, reason: str) -> None:
    path = tmp_path / f'a.{ending}'
    texture(0).save(path)
    content = path.read_bytes()
    if fault == 'missing':
        path.unlink()
    else:
        broken = {'empty': b'', 'cut': content[: len(content) // 2], 'html': b'<html>no</html>'}
        path.write_bytes(broken.get(fault, b'no picture'))
    if (ending, fault) == ('png', 'cut'):
        reason = 'not decoded'  # OpenCV returns nothing; of a JPEG file, grey pixels
    assert reason in scan_image(str(path), read).error


def test_nan_is_an_error(tmp_path: Path) -> None:
    np.save(tmp_path / 'a.npy', np.full((40, 40, 2), np.nan, np.float32))
    assert 'NaN' in scan_image(str(tmp_path / 'a.npy'), np.load).error


@pytest.mark.parametrize('kind', [np.uint8, np.uint16])
def test_values_of_masks(tmp_path: Path, kind: type) -> None:
    values = np.random.default_rng(0).integers(0, 7, (40, 50)).astype(kind) * 30
    Image.fromarray(values).save(tmp_path / 'a.png')
    found = scan_mask(str(tmp_path / 'a.png'), read_mask)
    assert found.size == (50, 40)
    assert found.counts == {v: int((values == v).sum()) for v in range(0, 210, 30)}


def test_masks_that_are_loaded_as_colours_are_an_error(tmp_path: Path) -> None:
    Image.new('RGB', (50, 40)).save(tmp_path / 'a.png')
    assert '3 channels' in scan_mask(str(tmp_path / 'a.png'), read_mask).error


def test_copies_and_similar_images(tmp_path: Path) -> None:
    texture(0).save(tmp_path / 'a.png')
    texture(0).save(tmp_path / 'b.png')  # the same bytes
    texture(0).save(tmp_path / 'c.jpg', quality=60)  # another encoding
    texture(0).resize((32, 24)).save(tmp_path / 'd.png')
    texture(1).save(tmp_path / 'e.png')
    Image.new('RGB', (64, 48), 'white').save(tmp_path / 'f.png')
    Image.new('RGB', (64, 40), 'white').save(tmp_path / 'g.png')  # no structure to compare
    scans = [scan_image(str(path), read) for path in sorted(tmp_path.iterdir())]
    assert find_copies(scans) == {1: 0}
    assert find_similar(scans) == {1: 0, 2: 0, 3: 0}


def test_similar_needs_similar_colours() -> None:
    look = np.arange(64) % 2 == 0
    scans = [
        Scan('a', look=look, mean=np.array([9.0])),
        Scan('b', look=look, mean=np.array([99.0])),
    ]
    assert find_similar(scans) == {}


def test_similar_of_many_images() -> None:
    rng = np.random.default_rng(0)
    looks = rng.integers(0, 2, (700, 64)).astype(bool)
    looks[650] = looks[3]
    looks[650, [5, 20, 40]] ^= True  # three bits are similar, four are not
    looks[651] = looks[4]
    looks[651, [5, 20, 40, 60]] ^= True
    assert find_similar([Scan('', look=one, mean=np.zeros(3)) for one in looks]) == {650: 3}
