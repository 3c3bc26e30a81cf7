"""LoadBands: order, choice and scale of bands, of arrays, TIFF files and deep images."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from vit_dense.data.image_files import BadFileError
from vit_dense.engine.load_bands import LoadBands

PIXELS = np.random.default_rng(0).integers(0, 4096, (40, 48, 5)).astype(np.uint16)


def load(path: Path, **options: Any) -> np.ndarray:
    results = LoadBands(**options)({'img_path': str(path)})
    assert results['img_shape'] == results['ori_shape'] == results['img'].shape[:2] == (40, 48)
    return results['img']


def write(folder: Path, suffix: str, pixels: np.ndarray, **options: Any) -> Path:
    path = folder / f'image{suffix}'
    if suffix == '.tif':
        rasterio = pytest.importorskip('rasterio')
        height, width, count = pixels.shape
        size = {'height': height, 'width': width, 'count': count, 'dtype': pixels.dtype}
        with rasterio.open(path, 'w', driver='GTiff', **size, **options) as file:
            file.write(np.moveaxis(pixels, -1, 0))
    elif suffix == '.npy':
        np.save(path, pixels)
    else:
        cv2.imwrite(str(path), pixels[..., [2, 1, 0, *range(3, pixels.shape[2])]])
    return path


@pytest.mark.filterwarnings('ignore:.*georeferenc')
@pytest.mark.parametrize('suffix', ['.npy', '.tif'])
def test_bands_keep_the_order_of_the_file(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path, suffix, PIXELS)
    image = load(path)
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, PIXELS)
    np.testing.assert_array_equal(load(path, bands=[5, 1]), PIXELS[..., [4, 0]])
    # Three are B, G, R, as everywhere: the preprocessor reverses them.
    np.testing.assert_array_equal(load(path, bands=[4, 2, 1]), PIXELS[..., [0, 1, 3]])


@pytest.mark.parametrize('count', [3, 4])
def test_deep_png(tmp_path: Path, count: int) -> None:
    pixels = PIXELS[..., :count]
    image = load(write(tmp_path, '.png', pixels), max_value=4095)
    expected = (pixels[..., ::-1] if count == 3 else pixels).astype(np.float32) * (255 / 4095)
    np.testing.assert_allclose(image, expected, rtol=1e-6)


def test_eight_bits_stay_eight_bits(tmp_path: Path) -> None:
    pixels = (PIXELS // 16).astype(np.uint8)
    image = load(write(tmp_path, '.npy', pixels))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, pixels)


def test_values_above_the_highest_are_clipped_if_they_are_few(tmp_path: Path) -> None:
    path = write(tmp_path, '.npy', PIXELS)
    image = load(path, max_value=3000)
    np.testing.assert_allclose(image, np.minimum(PIXELS / 3000 * 255, 255), rtol=1e-6)
    with pytest.raises(ValueError, match=r'93% of the values are above .*max_value=255'):
        load(path, max_value=255)


def test_other_layouts_of_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / 'first.npy', np.moveaxis(PIXELS, -1, 0))
    np.testing.assert_array_equal(load(tmp_path / 'first.npy'), PIXELS)
    np.save(tmp_path / 'grey.npy', PIXELS[..., 0])
    np.testing.assert_array_equal(load(tmp_path / 'grey.npy'), PIXELS[..., :1])


@pytest.mark.filterwarnings('ignore:.*georeferenc')
def test_pixels_without_data_are_zero(tmp_path: Path) -> None:
    pixels = PIXELS.astype(np.float32)
    pixels[0, 0, 1] = np.nan
    assert load(write(tmp_path, '.npy', pixels))[0, 0, 1] == 0
    pixels[0, 0, 1] = -9999
    image = load(write(tmp_path, '.tif', pixels, nodata=-9999))
    assert image[0, 0, 1] == 0
    np.testing.assert_array_equal(image[1:], pixels[1:])


@pytest.mark.parametrize('suffix', ['.npy', '.tif', '.png', '.jpg'])
@pytest.mark.parametrize('content', [b'', b'rubbish', None])
def test_bad_files_are_named(tmp_path: Path, suffix: str, content: bytes | None) -> None:
    if suffix == '.tif':
        pytest.importorskip('rasterio')
    path = tmp_path / f'bad{suffix}'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadFileError, match=rf'bad\{suffix}'):
        load(path)


def test_wrong_options(tmp_path: Path) -> None:
    path = write(tmp_path, '.npy', PIXELS)
    with pytest.raises(ValueError, match=r'has 5 bands.*bands=\[0, 6\].*1\.\.5'):
        load(path, bands=[0, 6])
    with pytest.raises(ValueError, match='positive number'):
        LoadBands(max_value=0)
