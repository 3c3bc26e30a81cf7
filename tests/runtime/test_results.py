"""Results: pictures, shares, files."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from stub_predictor import CLASSES, PALETTE, StubPredictor

from vit_dense.runtime import Detections, Segmentation
from vit_dense.runtime.writing import encode_mask, write_bytes

LABELS = np.array([[0, 1, 1], [2, 1, 1]], np.uint8)
IMAGE = np.full((2, 3, 3), 100, np.uint8)


def segmentation(**changes: object) -> Segmentation:
    values = {'labels': LABELS, 'classes': CLASSES, 'palette': PALETTE, 'image': IMAGE}
    return Segmentation(**{**values, **changes})


def detections() -> Detections:
    return StubPredictor('detection').predict(np.zeros((40, 60, 3), np.uint8))


def test_overlay_and_areas() -> None:
    drawn = segmentation().draw(opacity=0.5)
    assert drawn[1, 0].tolist() == [150, 50, 50]  # half of (200, 0, 0), half of the image
    assert segmentation().areas() == {'road': 1 / 6, 'sky': 4 / 6, 'car': 1 / 6}
    assert 'car' not in segmentation(labels=np.zeros((2, 3), np.uint8)).areas()


def test_drawing_needs_the_image_that_was_predicted() -> None:
    with pytest.raises(ValueError, match='no image'):
        segmentation(image=None).draw()
    with pytest.raises(ValueError, match='2x2 pixels, the prediction 2x3'):
        segmentation().draw(np.zeros((2, 2, 3), np.uint8))


def test_index_png_has_the_palette(tmp_path: Path) -> None:
    segmentation().save(tmp_path / 'new' / 'a.png')
    with Image.open(tmp_path / 'new' / 'a.png') as picture:
        assert picture.mode == 'P'
        assert (np.array(picture) == LABELS).all()
        assert picture.getpalette()[:9] == PALETTE.ravel().tolist()
        assert np.array(picture.convert('RGB'))[1, 0].tolist() == [200, 0, 0]
    again = cv2.imread(str(tmp_path / 'new' / 'a.png'), cv2.IMREAD_UNCHANGED)
    assert again.shape[:2] == (2, 3)


def test_many_classes_need_16_bits(tmp_path: Path) -> None:
    labels = np.array([[0, 299]], np.uint16)
    segmentation(labels=labels).save(tmp_path / 'a.png')
    assert (cv2.imread(str(tmp_path / 'a.png'), cv2.IMREAD_UNCHANGED) == labels).all()


def test_select() -> None:
    found = detections()
    assert len(found) == 2
    assert found.select(score_threshold=0.5).labels.tolist() == [2]
    assert found.select(classes=['road']).scores.tolist() == pytest.approx([0.1])
    assert found.select(classes=['road']).masks.shape == (1, 40, 60)
    with pytest.raises(ValueError, match=r"no class 'tree'.*road, sky, car"):
        found.select(classes=['tree'])


def test_coco_results(tmp_path: Path) -> None:
    found = detections()
    found.save(tmp_path / 'a.json')
    first = json.loads((tmp_path / 'a.json').read_text())[0]
    assert first['bbox'] == [2, 1, 3, 2]
    assert (first['category_id'], first['category_name']) == (3, 'car')
    run_lengths = coco_mask.frPyObjects(first['segmentation'], 40, 60)
    assert (coco_mask.decode(run_lengths).astype(bool) == found.masks[0]).all()


@pytest.mark.parametrize('fill', ['nothing', 'everything', 'first', 'random'])
def test_run_lengths_are_those_of_coco(fill: str) -> None:
    mask = np.zeros((5, 7), bool)
    if fill == 'everything':
        mask[:] = True
    elif fill == 'first':
        mask[0, 0] = True
    elif fill == 'random':
        mask = np.random.default_rng(0).random((5, 7)) > 0.5
    encoded = encode_mask(mask)
    assert sum(encoded['counts']) == 35
    decoded = coco_mask.decode(coco_mask.frPyObjects(encoded, 5, 7))
    assert (decoded.astype(bool) == mask).all()


def test_drawing_of_objects_shows_their_colour() -> None:
    drawn = detections().select(score_threshold=0.5).draw()
    factor = drawn.shape[0] // 40
    assert drawn[3 * factor, 4 * factor].tolist() == [200, 0, 0]  # the frame of the car


def test_a_file_is_replaced_whole_or_stays(tmp_path: Path) -> None:
    target = tmp_path / 'a.bin'
    write_bytes(target, b'old')
    with pytest.raises(TypeError):
        write_bytes(target, 'no bytes')  # type: ignore[arg-type]
    assert target.read_bytes() == b'old'
    assert [path.name for path in tmp_path.iterdir()] == ['a.bin']
    write_bytes(target, b'new')
    assert target.read_bytes() == b'new'
