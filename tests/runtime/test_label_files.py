"""Label maps written row by row are what other readers see."""

import os

import cv2
import numpy as np
import pytest
import rasterio
from function_predictor import FunctionPredictor, pixel_scores
from PIL import Image

from vit_dense.runtime import label_files
from vit_dense.runtime.tiles import TileOptions, predict_tiled

IMAGE = np.random.default_rng(0).integers(0, 256, (150, 131, 3), np.uint8)
LABELS = pixel_scores(IMAGE).argmax(axis=0)


@pytest.mark.parametrize('name', ['labels.png', 'labels.tif', 'new/labels.TIF'])
def test_labels_and_colours_are_read_by_others(tmp_path, name):
    predictor = FunctionPredictor(pixel_scores)
    out = tmp_path / name
    predict_tiled(predictor, IMAGE, out, TileOptions(tile=64))
    with Image.open(out) as picture:
        np.testing.assert_array_equal(np.array(picture), LABELS)
        colours = np.array(picture.convert('RGB'))
    np.testing.assert_array_equal(colours, predictor.palette[LABELS])
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize('suffix', ['.png', '.tif'])
def test_more_than_255_classes_have_16_bits(tmp_path, suffix):
    def scores(image):
        rest = np.zeros((298, *image.shape[:2]), np.float32)
        return np.concatenate([1 - image[None, ..., 0] / 255, rest, image[None, ..., 0] / 255])

    out = tmp_path / f'labels{suffix}'
    predict_tiled(FunctionPredictor(scores, classes=300), IMAGE, out, TileOptions(tile=64))
    found = cv2.imread(str(out), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(found, np.where(IMAGE[..., 0] >= 128, 299, 0))
    assert found.dtype == np.uint16


def test_geotiff_is_tiled_compressed_and_names_its_classes(tmp_path):
    out = tmp_path / 'labels.tif'
    predict_tiled(FunctionPredictor(pixel_scores), IMAGE, out, TileOptions(tile=64))
    with rasterio.open(out) as dataset:
        assert dataset.profile['tiled']
        assert dataset.profile['compress'] == 'deflate'
        assert dataset.tags()['CLASSES'] == '["class 0", "class 1", "class 2"]'


def test_other_formats_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r'labels\.jpg: labels are written as \.png or \.tif'):
        predict_tiled(FunctionPredictor(pixel_scores), IMAGE, tmp_path / 'labels.jpg')
    assert not list(tmp_path.iterdir())


class CutDataset:
    """A dataset of rasterio on a disk that is full when it is closed."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __getattr__(self, name):
        return getattr(self.dataset, name)

    def close(self):
        self.dataset.close()
        os.truncate(self.dataset.name, os.path.getsize(self.dataset.name) - 100)


def test_a_geotiff_that_is_not_whole_is_no_result(tmp_path, monkeypatch):
    create = label_files._create
    monkeypatch.setattr(label_files, '_create', lambda *given: CutDataset(create(*given)))
    out = tmp_path / 'labels.tif'
    with pytest.raises(OSError, match=r'labels\.tif: .* is the disk full\?'):
        predict_tiled(FunctionPredictor(pixel_scores), IMAGE, out, TileOptions(tile=64))
    assert not list(tmp_path.iterdir())
