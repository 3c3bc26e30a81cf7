"""Tiles that are blended equal the whole image, and say where they do not."""

import tracemalloc

import cv2
import numpy as np
import pytest
import rasterio
from function_predictor import FunctionPredictor, pixel_scores

from vit_dense.runtime import tiles
from vit_dense.runtime.tiles import TileOptions, predict_tiled, segment_tiled

RANDOM = np.random.default_rng(0)


def picture(height: int, width: int) -> np.ndarray:
    return RANDOM.integers(0, 256, (height, width, 3), np.uint8)


def blurred_scores(image: np.ndarray) -> np.ndarray:
    """Sees four pixels in each direction."""
    return pixel_scores(cv2.blur(image.astype(np.float32), (9, 9)))


@pytest.mark.parametrize(('height', 'width'), [(1, 1), (40, 200), (150, 64), (131, 197), (65, 65)])
@pytest.mark.parametrize('overlap', [0, 16, 32])
def test_labels_of_a_pixel_model_equal_the_whole_image(height, width, overlap):
    image = picture(height, width)
    result, summary = segment_tiled(
        FunctionPredictor(pixel_scores), image, TileOptions(tile=64, overlap=overlap)
    )
    np.testing.assert_array_equal(result.labels, pixel_scores(image).argmax(axis=0))
    assert not summary.disagreement
    assert summary.size == (height, width)
    assert summary.areas == result.areas()


def test_a_model_with_bounded_surroundings_equals_the_whole_image_with_enough_overlap():
    image = picture(200, 333)
    whole = blurred_scores(image).argmax(axis=0)
    predictor = FunctionPredictor(blurred_scores)
    # An eighth of the tile is beyond each edge of a blended zone: 8 pixels, of which 4 are seen.
    result, summary = segment_tiled(predictor, image, TileOptions(tile=64, overlap=32))
    assert summary.disagreement == 0
    assert np.count_nonzero(result.labels != whole) <= 2  # ties in 66,600 pixels
    cut, _ = segment_tiled(predictor, image, TileOptions(tile=64, overlap=0))
    assert np.count_nonzero(cut.labels != whole) > 1000


def test_blending_is_smooth_and_disagreement_is_counted():
    """The left tile is sure of class 0, the right one of class 1: labels change in the middle."""

    def scores(image):
        sure = int(image[0, 0, 0])
        return np.stack([np.full(image.shape[:2], float(sure == i)) for i in range(3)])

    image = np.zeros((64, 112, 3), np.uint8)
    image[:, 48:] = 1  # the second tile begins here
    result, summary = segment_tiled(
        FunctionPredictor(scores), image, TileOptions(tile=64, overlap=16)
    )
    assert summary.tiles == 2
    assert summary.disagreement == 1
    assert (result.labels[:, :56] == 0).all()
    assert (result.labels[:, 56:] == 1).all()
    upright, other = segment_tiled(
        FunctionPredictor(scores), image.transpose(1, 0, 2), TileOptions(tile=64, overlap=16)
    )
    np.testing.assert_array_equal(upright.labels, result.labels.T)
    assert other.disagreement == 1


def test_an_unsure_tile_yields_to_a_sure_one_as_its_weight_falls():
    def scores(image):
        first = 1.0 if image[0, 0, 0] == 0 else 0.25
        return np.stack([np.full(image.shape[:2], first), np.full(image.shape[:2], 1 - first)])

    image = np.zeros((64, 112, 3), np.uint8)
    image[:, 48:] = 1
    result, _ = segment_tiled(
        FunctionPredictor(scores, classes=2), image, TileOptions(tile=64, overlap=16)
    )
    # 8 pixels from 52 are blended; weight w of the right tile gives 1 - 0.75 w against 0.75 w.
    position = (np.arange(8) + 0.5) / 8
    weight = position**2 * (3 - 2 * position)
    expected = np.concatenate([np.zeros(52), weight > 2 / 3, np.ones(52)])
    np.testing.assert_array_equal(result.labels, np.tile(expected, (64, 1)))


def test_one_score_uses_the_threshold_of_the_model():
    image = picture(100, 150)
    predictor = FunctionPredictor(lambda x: x[None, ..., 0] / 255, classes=2, threshold=0.3)
    result, _ = segment_tiled(predictor, image, TileOptions(tile=64))
    np.testing.assert_array_equal(result.labels, image[..., 0] / np.float32(255) > 0.3)


def test_one_score_without_a_threshold_is_refused():
    predictor = FunctionPredictor(lambda x: x[None, ..., 0] / 255, classes=2, threshold=0.3)
    predictor.tile_model = lambda: tiles.TileModel(predictor)  # type: ignore[method-assign]
    with pytest.raises(ValueError, match='threshold'):
        segment_tiled(predictor, picture(64, 64), TileOptions(tile=64))


def test_many_classes_run_in_smaller_batches_and_blend_narrower_zones(monkeypatch):
    image = picture(200, 130)
    predictor = FunctionPredictor(pixel_scores)
    result, _ = segment_tiled(predictor, image, TileOptions(tile=64, batch_size=4))
    assert max(predictor.batches) == 4
    monkeypatch.setattr(tiles, '_BATCH_BYTES', 2 * 64 * 64 * 3 * 4)
    monkeypatch.setattr(tiles, '_STRIP_BYTES', 3 * 130 * 3 * 4)
    small = FunctionPredictor(pixel_scores)
    narrow, _ = segment_tiled(small, image, TileOptions(tile=64, batch_size=4))
    assert max(small.batches) == 2
    np.testing.assert_array_equal(narrow.labels, result.labels)


def test_memory_does_not_grow_with_height(tmp_path):
    """In NumPy's count; a benchmark measures the process."""
    peaks = []
    for height in (300, 1200):
        source = tmp_path / f'{height}.tif'
        size = {'height': height, 'width': 200, 'count': 3, 'dtype': 'uint8'}
        with rasterio.open(source, 'w', driver='GTiff', photometric='rgb', **size) as dataset:
            dataset.write(np.moveaxis(picture(height, 200), -1, 0))
        predictor = FunctionPredictor(lambda image: np.tile(pixel_scores(image), (10, 1, 1)), 30)
        predictor.images = Forgetful()
        tracemalloc.start()
        predict_tiled(predictor, source, tmp_path / 'labels.tif', TileOptions(tile=64))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Batches of 8 tiles, and what is kept of 3 rows of them; the labels alone are 240 kB.
    assert peaks[0] > 8 * 64 * 64 * 30 * 4
    assert peaks[1] < peaks[0] + 50_000


class Forgetful(list):
    def __iadd__(self, other):
        return self


def test_tiles_start_at_windows_and_progress_is_told():
    predictor = FunctionPredictor(pixel_scores, tile=70, align=16)
    seen = []
    _, summary = segment_tiled(
        predictor, picture(64, 150), TileOptions(), progress=lambda *now: seen.append(now)
    )
    assert {one.shape[:2] for one in predictor.images} == {(64, 64), (64, 54)}
    assert summary.tiles == len(predictor.images) == 3
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_tile_that_fails_ends_the_run_and_leaves_the_old_file(tmp_path):
    def scores(image):
        if image[0, 0, 0] == 9:
            raise RuntimeError('out of memory')
        return pixel_scores(image)

    image = np.zeros((100, 64, 3), np.uint8)
    image[36:] = 9
    out = tmp_path / 'labels.png'
    out.write_text('old')
    with pytest.raises(ValueError, match=r'tile at x=0 y=36: out of memory'):
        predict_tiled(FunctionPredictor(scores), image, out, TileOptions(tile=64))
    assert out.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [out]


def test_detectors_are_refused():
    with pytest.raises(ValueError, match='--slice'):
        segment_tiled(FunctionPredictor(pixel_scores, task='detection'), picture(8, 8))
