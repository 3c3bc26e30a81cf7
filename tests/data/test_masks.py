"""Masks of every encoding become the same class indices; what is not listed is named."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from vit_dense.data.image_files import BadFileError
from vit_dense.data.masks import decode_mask, read_mask

LABELS = np.array([[0, 1, 2], [3, 2, 1]], np.uint8)
PALETTE = [(9, 9, 9), (255, 0, 0), (0, 255, 0), (0, 0, 255)]
COLOURS = np.array(PALETTE, np.uint8)


def chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack('>I', zlib.crc32(kind + content))
    return struct.pack('>I', len(content)) + kind + content + check


def grey_png(bits: int) -> bytes:
    """Encode LABELS in 1 to 4 bits a pixel, which Pillow does not write."""
    rows = b''
    for row in LABELS:
        digits = ''.join(f'{value:0{bits}b}' for value in row)
        digits = digits.ljust(-(-len(digits) // 8) * 8, '0')
        rows += b'\0' + int(digits, 2).to_bytes(len(digits) // 8, 'big')
    header = struct.pack('>IIBBBBB', 3, 2, bits, 0, 0, 0, 0)
    parts = chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n' + parts


NOISE = cv2.imencode('.png', np.random.default_rng(0).integers(0, 9, (64, 64)))[1].tobytes()


def palette_image() -> Image.Image:
    picture = Image.fromarray(LABELS, mode='L').copy()
    picture.putpalette([level for rgb in PALETTE for level in rgb])
    return picture


@pytest.mark.parametrize('name', ['two', 'four', 'eight', 'sixteen', 'palette', 'tiff32'])
def test_indices_of_any_depth(tmp_path: Path, name: str) -> None:
    path = tmp_path / 'mask.png'
    expected = LABELS.astype(np.int64)
    if name in ('two', 'four'):
        path.write_bytes(grey_png({'two': 2, 'four': 4}[name]))
    elif name == 'sixteen':
        expected = expected * 300
        Image.fromarray(expected.astype(np.uint16)).save(path)
    elif name == 'tiff32':
        path = tmp_path / 'mask.tif'
        expected = expected * 70000
        Image.fromarray(expected.astype(np.int32)).save(path)
    else:
        (palette_image() if name == 'palette' else Image.fromarray(LABELS)).save(path)
    np.testing.assert_array_equal(read_mask(path), expected)


def test_one_bit_is_zero_and_one(tmp_path: Path) -> None:
    Image.fromarray(LABELS > 1).save(tmp_path / 'a.png')
    np.testing.assert_array_equal(read_mask(tmp_path / 'a.png'), LABELS > 1)


@pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'P'])
def test_colours(tmp_path: Path, mode: str) -> None:
    picture = palette_image() if mode == 'P' else Image.fromarray(COLOURS[LABELS]).convert(mode)
    picture.save(tmp_path / 'a.png')
    values = read_mask(tmp_path / 'a.png', as_colours=True)
    np.testing.assert_array_equal(values, COLOURS[LABELS])
    np.testing.assert_array_equal(decode_mask(values, colours=PALETTE), LABELS)
    swapped = decode_mask(values, colours=PALETTE, label_map={0: 255, 1: 0, 2: 1, 3: 300})
    np.testing.assert_array_equal(swapped, np.array([255, 0, 1, 300])[LABELS])
    assert swapped.dtype == np.uint16


def test_black_and_white_as_colours(tmp_path: Path) -> None:
    Image.fromarray(np.where(LABELS > 1, 255, 0).astype(np.uint8)).save(tmp_path / 'a.png')
    values = read_mask(tmp_path / 'a.png', as_colours=True)
    decoded = decode_mask(values, colours=[(0, 0, 0), (255, 255, 255)])
    np.testing.assert_array_equal(decoded, LABELS > 1)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.int32])
def test_label_map(dtype: type) -> None:
    values = np.array([[0, 255]], dtype)
    assert decode_mask(values, label_map={0: 0, 255: 1}).tolist() == [[0, 1]]
    with pytest.raises(ValueError, match=r'M holds the value 255, which label_map.*lists 0, 7'):
        decode_mask(values, label_map={0: 0, 7: 1}, name='M')


@pytest.mark.parametrize(
    ('label_map', 'void', 'dtype'),
    [
        (None, 255, np.uint8),
        ({0: 0, 1: 256, 2: 1, 3: 1}, 255, np.uint16),
        (None, 65535, np.uint16),
        ({0: 0, 1: -1, 2: 1, 3: 1}, -1, np.int16),
    ],
)
def test_the_type_holds_all_labels(label_map: object, void: int, dtype: type) -> None:
    decoded = decode_mask(LABELS, label_map=label_map, ignore_index=void)  # type: ignore[arg-type]
    assert decoded.dtype == dtype


def test_unlisted_colours_are_named() -> None:
    with pytest.raises(ValueError, match=r'holds the colour \(0, 0, 255\), which colours'):
        decode_mask(COLOURS[LABELS], colours=PALETTE[:3])
    with pytest.raises(ValueError, match=r'3 channels.*colours=\[\(0, 0, 255\), \(0, 255, 0\)'):
        decode_mask(COLOURS[LABELS])
    noise = np.random.default_rng(0).integers(0, 256, (30, 30, 3), np.uint8)
    with pytest.raises(ValueError, match='too many for classes'):
        decode_mask(noise)


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (b'', 'is empty'),
        (b'<!DOCTYPE html><html>', 'web page'),
        (NOISE[:1000], 'cannot be read as a picture'),
        (b'GIF8', 'cannot be read as a picture'),
        (None, 'No such file'),
    ],
)
def test_bad_files_are_named(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / 'bad.png'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadFileError, match=rf'bad\.png.*{reason}'):
        read_mask(path)


def test_fractions_are_no_classes(tmp_path: Path) -> None:
    Image.fromarray(LABELS / np.float32(2)).save(tmp_path / 'a.tif')
    with pytest.raises(ValueError, match='mode F'):
        read_mask(tmp_path / 'a.tif')
