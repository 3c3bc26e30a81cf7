"""What happens to one image of the page, without a browser."""

import json
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fake_predictor import PALETTE, FakePredictor
from PIL import Image

from vit_dense.runtime import Detections, Segmentation
from vit_dense.web.session import (
    VIEW_EDGE,
    Limits,
    Prediction,
    default_megapixels,
    draw,
    legend,
    predict_file,
)

ROOT = Path(__file__).resolve().parents[2]
LIMITS = Limits(megabytes=1, megapixels=2)


def _noise(*shape: int, dtype: Any = np.uint8) -> Any:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape).astype(dtype)


def _write_odd(kind: str, folder: Path) -> Path:
    """Writes a 40 x 60 image that loaders are known to read differently."""
    path = folder / f'{kind}.{"jpg" if kind == "turned" else "tif" if "tiff" in kind else "png"}'
    if kind == 'turned':
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(_noise(40, 60, 3)).save(path, exif=exif)
        return path
    shape, dtype = {
        'alpha': ((40, 60, 4), np.uint8),
        'deep': ((40, 60, 3), np.uint16),
        'deep_tiff': ((40, 60, 3), np.uint16),  # Pillow does not open these
        'grey': ((40, 60), np.uint8),
    }[kind]
    assert cv2.imwrite(str(path), _noise(*shape, dtype=dtype))
    return path


@pytest.fixture(scope='module')
def segmentor() -> Any:
    pytest.importorskip('mmseg')
    from vit_dense.apis.model import load_model

    return load_model(ROOT / 'configs/vit_upernet_demo.py', require_checkpoint=False, device='cpu')


@pytest.mark.parametrize('kind', ['turned', 'alpha', 'deep', 'deep_tiff', 'grey'])
def test_predictions_and_downloads_equal_those_of_predict(
    segmentor: Any, kind: str, tmp_path: Path
) -> None:
    path = _write_odd(kind, tmp_path)
    expected = segmentor.predict(str(path))
    done = predict_file(segmentor, path, LIMITS)
    assert isinstance(done.view, Segmentation)
    np.testing.assert_array_equal(done.view.labels, expected.labels)
    assert done.size == expected.labels.shape == ((60, 40) if kind == 'turned' else (40, 60))
    assert done.areas == expected.areas()
    expected.save(tmp_path / 'saved.png')
    assert done.content == (tmp_path / 'saved.png').read_bytes()
    shown = draw(done, opacity=0.3, threshold=0.0, hidden=[])
    np.testing.assert_array_equal(shown, expected.draw(opacity=0.3))


def _done(folder: Path, predictor: FakePredictor, picture: Any) -> Prediction:
    path = folder / 'image.png'
    cv2.imwrite(str(path), picture)
    return predict_file(predictor, path, LIMITS)


def test_redrawing_does_not_predict_again_and_hidden_classes_show_the_image(tmp_path: Path) -> None:
    predictor = FakePredictor()
    picture = np.zeros((10, 10, 3), np.uint8)
    picture[:, 4:] = 100
    picture[:, 9:] = 200
    done = _done(tmp_path, predictor, picture)
    every = draw(done, opacity=1.0, threshold=0.5, hidden=[])
    some = draw(done, opacity=1.0, threshold=0.5, hidden=['middle'])
    np.testing.assert_array_equal(every[0], PALETTE[[0] * 4 + [1] * 5 + [2]])
    np.testing.assert_array_equal(some[:, 4:9], picture[:, 4:9])
    np.testing.assert_array_equal(some[:, :4], every[:, :4])
    half = draw(done, opacity=0.5, threshold=0.5, hidden=[])
    assert half[0, 4].tolist() == [50, 178, 50]
    assert predictor.calls == 1
    rows = legend(done, threshold=0.5, hidden=['middle'])
    assert [(row['name'], row['amount'], row['shown']) for row in rows] == [
        ('middle', '50.0 %', False),
        ('dark', '40.0 %', True),
        ('<b>bright</b>', '10.0 %', True),
    ]
    assert rows[0]['colour'] == 'rgb(0, 255, 0)'


def test_the_threshold_selects_objects_and_the_download_has_all(tmp_path: Path) -> None:
    picture = _noise(300, 280, 3)
    done = _done(tmp_path, FakePredictor('detection'), picture)
    rows = legend(done, threshold=0.4, hidden=[])
    assert [(row['name'], row['amount']) for row in rows] == [('dark', '2')]
    rows = legend(done, threshold=0.6, hidden=['<b>bright</b>'])
    assert [(row['name'], row['amount'], row['shown']) for row in rows] == [
        ('dark', '1', True),
        ('<b>bright</b>', '0', False),
    ]
    nothing = draw(done, opacity=0.6, threshold=0.95, hidden=[])
    np.testing.assert_array_equal(nothing, picture[..., ::-1])
    np.testing.assert_array_equal(
        draw(done, opacity=0.6, threshold=0.0, hidden=['dark', '<b>bright</b>']), nothing
    )
    assert (draw(done, opacity=0.6, threshold=0.6, hidden=[]) != nothing).any()
    assert done.file_name == 'image.json'
    assert [round(one['score'], 2) for one in json.loads(done.content)] == [0.9, 0.5, 0.2]


@pytest.mark.parametrize('task', ['segmentation', 'detection'])
def test_large_images_are_shown_small_and_downloaded_whole(task: str, tmp_path: Path) -> None:
    picture = np.zeros((100, 2 * VIEW_EDGE, 3), np.uint8)
    picture[:, VIEW_EDGE:] = 255
    done = _done(tmp_path, FakePredictor(task), picture)
    assert done.size == (100, 2 * VIEW_EDGE)
    shown = draw(done, opacity=1.0, threshold=0.0, hidden=[])
    if isinstance(done.view, Segmentation):
        assert shown.shape == (50, VIEW_EDGE, 3)
        assert done.areas == {'dark': 0.5, '<b>bright</b>': 0.5}
        np.testing.assert_array_equal(shown[25, [0, -1]], PALETTE[[0, 2]])
        saved = cv2.imdecode(np.frombuffer(done.content, np.uint8), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(
            saved[:, [0, -1]], np.tile(PALETTE[[0, 2], ::-1], (100, 1, 1))
        )
        assert saved.shape[:2] == done.size
    else:
        assert isinstance(done.view, Detections)
        assert done.view.boxes[0].tolist() == [0, 0, VIEW_EDGE / 2, 25]
        assert done.view.masks is not None
        assert done.view.masks[0].sum() == 25 * VIEW_EDGE / 2
        assert json.loads(done.content)[0]['bbox'] == [0, 0, VIEW_EDGE, 50]


def _png_header(width: int, height: int) -> bytes:
    """Returns a PNG that claims to be large, with hardly any data."""
    body = b'IHDR' + struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    data = b'IDAT' + zlib.compress(b'')
    chunks = [body, data, b'IEND']
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(one) - 4) + one + struct.pack('>I', zlib.crc32(one)) for one in chunks
    )


def _jpeg() -> bytes:
    return cv2.imencode('.jpg', _noise(64, 64, 3))[1].tobytes()


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('page.jpg', b'<!DOCTYPE html><html></html>', 'this is a web page'),
        ('empty.png', b'', 'the file is empty'),
        ('cut.jpg', _jpeg()[:1500], 'the JPEG file is cut off'),
        ('noise.png', bytes(range(200)), 'its size cannot be read'),
        ('noise.tif', b'II*\0\xff\xff\xff\xff', 'its size cannot be read'),
        ('heavy.png', bytes(2**20 + 1), r'1\.0 MB; this page takes up to 1 \(--max-upload'),
        ('bomb.png', _png_header(9000, 9000), r'81\.0 million.*up to 2 million \(--max-megapixels'),
        ('bomb2.png', _png_header(60000, 60000), 'exceeds limit|million'),
    ],
)
def test_bad_files_are_named_in_one_line_without_their_folder(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    predictor = FakePredictor()
    with pytest.raises(ValueError, match=message) as caught:
        predict_file(predictor, path, LIMITS)
    text = str(caught.value)
    assert text.startswith(f'{name}: ')
    assert '\n' not in text
    assert str(tmp_path) not in text
    assert predictor.calls == 0


def test_floating_point_tiffs_have_a_message(tmp_path: Path) -> None:
    path = tmp_path / 'depth.tif'
    cv2.imwrite(str(path), np.ones((20, 20, 3), np.float32))
    with pytest.raises(ValueError, match=re.escape('depth.tif: ')):
        predict_file(FakePredictor(), path, LIMITS)


def test_the_limit_of_pixels_follows_the_number_of_classes() -> None:
    predictor = FakePredictor()
    assert default_megapixels(predictor) == 25
    predictor.classes = tuple(map(str, range(150)))
    assert default_megapixels(predictor) == 4.4
    predictor.task = 'detection'
    assert default_megapixels(predictor) == 25
