"""Windows of GeoTIFF files: bands, types, missing data and georeference, or a clear refusal."""

import builtins

import cv2
import numpy as np
import pytest
import rasterio
from function_predictor import FunctionPredictor, pixel_scores
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin

from vit_dense.runtime.rasters import RasterOptions, open_raster
from vit_dense.runtime.tiles import TileOptions, predict_tiled, segment_tiled

PLACE = {'crs': 'EPSG:32633', 'transform': from_origin(500000, 5400000, 0.2, 0.2)}
RANDOM = np.random.default_rng(0)


def write(path, bands, **options):
    """Write `(C, H, W)`."""
    count, height, width = bands.shape
    size = {'count': count, 'height': height, 'width': width, 'dtype': bands.dtype}
    colours = options.pop('colours', None)
    with rasterio.open(path, 'w', driver='GTiff', **size, **{**PLACE, **options}) as dataset:
        dataset.write(bands)
        if colours:
            dataset.colorinterp = [ColorInterp[name] for name in colours]
    return path


def colours(height=100, width=150):
    return RANDOM.integers(1, 256, (3, height, width), np.uint8)


def test_rgb_reaches_the_model_as_bgr_and_georeference_is_kept(tmp_path):
    bands = colours()
    source = write(tmp_path / 'in.tif', bands, photometric='rgb')
    predictor = FunctionPredictor(pixel_scores)
    summary = predict_tiled(predictor, source, tmp_path / 'out.tif', TileOptions(tile=64))
    bgr = np.moveaxis(bands[::-1], 0, -1)
    np.testing.assert_array_equal(predictor.images[0], bgr[:64, :64])
    with rasterio.open(tmp_path / 'out.tif') as out:
        np.testing.assert_array_equal(out.read(1), pixel_scores(bgr).argmax(axis=0))
        assert out.crs.to_epsg() == 32633
        assert out.transform == PLACE['transform']
        assert out.nodata == 255
    assert summary.skipped == 0
    assert sum(summary.areas.values()) == pytest.approx(1)


def test_ground_control_points_are_kept(tmp_path):
    points = [GroundControlPoint(0, 0, 10, 50, 0), GroundControlPoint(9, 0, 10, 40, 0)]
    place = {'gcps': points, 'crs': 'EPSG:4326', 'transform': None}
    source = write(tmp_path / 'in.tif', colours(), photometric='rgb', **place)
    predict_tiled(FunctionPredictor(pixel_scores), source, tmp_path / 'out.tif')
    with rasterio.open(tmp_path / 'out.tif') as out:
        assert [(p.row, p.col, p.x, p.y) for p in out.gcps[0]] == [(0, 0, 10, 50), (9, 0, 10, 40)]
        assert out.gcps[1].to_epsg() == 4326


def test_pixels_without_data_get_the_void_label_and_empty_tiles_are_skipped(tmp_path):
    bands = colours(64, 200)
    bands[:, :, :100] = 0
    bands[0, :, 150] = 0  # one band alone has data in the others
    source = write(tmp_path / 'in.tif', bands, photometric='rgb', nodata=0)
    predictor = FunctionPredictor(pixel_scores)
    summary = predict_tiled(predictor, source, tmp_path / 'out.tif', TileOptions(tile=64))
    expected = pixel_scores(np.moveaxis(bands[::-1], 0, -1)).argmax(axis=0)
    expected[:, :100] = 255
    with rasterio.open(tmp_path / 'out.tif') as out:
        np.testing.assert_array_equal(out.read(1), expected)
    assert (summary.tiles, summary.skipped) == (4, 1)
    counts = np.bincount(expected[:, 100:].ravel())
    assert summary.areas == {f'class {i}': count / (64 * 100) for i, count in enumerate(counts)}
    result, _ = segment_tiled(predictor, source, TileOptions(tile=64))
    np.testing.assert_array_equal(result.labels, expected)


def test_missing_data_and_nan_never_reach_the_model(tmp_path):
    bands = RANDOM.normal(size=(5, 64, 90)).astype(np.float32)
    bands[:, :10] = -9999
    bands[2, 20, 30] = np.nan
    source = write(tmp_path / 'in.tif', bands, nodata=-9999)
    predictor = FunctionPredictor(lambda x: np.moveaxis(x[..., :3], -1, 0) * 0.1, channels=5)
    result, _ = segment_tiled(predictor, source, TileOptions(tile=64))
    assert all(np.isfinite(one).all() and one.min() > -10 for one in predictor.images)
    np.testing.assert_array_equal(predictor.images[0][10:20], np.moveaxis(bands, 0, -1)[10:20, :64])
    assert (result.labels[:10] == 255).all()
    assert (result.labels[10:] < 3).all()


@pytest.mark.parametrize('turned', [False, True])
def test_disagreement_is_counted_where_there_are_data(tmp_path, turned):
    """Tiles agree on the upper half, and not on the lower, which has no data."""

    def scores(image):
        image = image.transpose(1, 0, 2) if turned else image
        labels = np.zeros(image.shape[:2], int)
        labels[32:] = image[0, 0, 0] // 10
        labels = labels.T if turned else labels
        return np.stack([labels == i for i in range(3)])

    bands = np.zeros((3, 64, 112), np.uint8)
    bands[:, :32, :48], bands[:, :32, 48:] = 10, 20
    bands = bands.transpose(0, 2, 1) if turned else bands
    source = write(tmp_path / 'in.tif', bands, photometric='rgb', nodata=0)
    result, summary = segment_tiled(FunctionPredictor(scores), source, TileOptions(tile=64))
    assert summary.tiles == 2
    assert summary.disagreement == 0
    assert np.unique(result.labels).tolist() == [0, 255]
    assert summary.areas == {'class 0': 1.0}


def test_the_mask_of_an_alpha_band_counts(tmp_path):
    bands = np.concatenate([colours(), np.full((1, 100, 150), 255, np.uint8)])
    bands[3, 5, 7] = 0
    names = ('red', 'green', 'blue', 'alpha')
    source = write(tmp_path / 'in.tif', bands, colours=names)
    result, _ = segment_tiled(FunctionPredictor(pixel_scores), source)
    assert np.argwhere(result.labels == 255).tolist() == [[5, 7]]


@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'int16', 'float32'])
def test_models_of_n_channels_take_n_bands_as_they_are(tmp_path, dtype):
    bands = RANDOM.integers(0, 200, (4, 40, 50)).astype(dtype)
    source = write(tmp_path / 'in.tif', bands, photometric='minisblack')
    with open_raster(source, 4, RasterOptions()) as raster:
        read = raster.read((3, 20), (10, 31))
    np.testing.assert_array_equal(read, np.moveaxis(bands, 0, -1)[3:20, 10:31])
    assert read.dtype == dtype


def test_chosen_bands_are_scaled_as_asked(tmp_path):
    bands = np.array([100, 1000, 2000, 3000, 9000], np.uint16)[:, None, None] + np.zeros(
        (5, 8, 9), np.uint16
    )
    source = write(tmp_path / 'in.tif', bands)
    options = RasterOptions(bands=[4, 3, 1], scale_from=(500, 2500))
    with open_raster(source, 3, options) as raster:
        read = raster.read((0, 8), (0, 9))
    # red 3000 is clipped, green 2000 is three quarters, blue 100 is clipped; BGR
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, np.broadcast_to([0, 191, 255], (8, 9, 3)))


def test_a_single_band_is_grey(tmp_path):
    bands = colours()[:1]
    with open_raster(write(tmp_path / 'in.tif', bands), 3, RasterOptions()) as raster:
        read = raster.read((0, 9), (0, 9))
    np.testing.assert_array_equal(read, np.repeat(bands[0, :9, :9, None], 3, axis=2))


@pytest.mark.parametrize(
    ('bands', 'options', 'channels', 'message'),
    [
        (np.zeros((4, 8, 8), np.uint8), {}, 3, r'4 bands .*--bands 1,2,3'),
        (np.zeros((3, 8, 8), np.uint8), {}, 3, r'3 bands \(gray, undefined, undefined\).*--bands'),
        (np.zeros((3, 8, 8), np.uint8), {}, 5, r'3 bands .*5 channels.*--bands'),
        (np.zeros((3, 8, 8), np.uint8), {'bands': [1, 2, 4]}, 3, r'got --bands 1,2,4.*1\.\.3'),
        (np.zeros((3, 8, 8), np.uint8), {'bands': [1]}, 3, 'Give 3 numbers'),
        (np.zeros((1, 8, 8), np.uint16), {}, 3, r'values are uint16.*--scale-from'),
        (np.zeros((3, 8, 8), np.float32), {'bands': [1, 2, 3]}, 3, 'values are float32'),
    ],
)
def test_what_leaves_doubt_is_refused(tmp_path, bands, options, channels, message):
    source = write(tmp_path / 'in.tif', bands, photometric='minisblack')
    with (
        pytest.raises(ValueError, match=message),
        open_raster(source, channels, RasterOptions(**options)),
    ):
        pass


def test_colour_tables_are_refused(tmp_path):
    source = write(tmp_path / 'in.tif', np.zeros((1, 8, 8), np.uint8))
    with rasterio.open(source, 'r+') as dataset:
        dataset.write_colormap(1, {0: (255, 0, 0)})
    with pytest.raises(ValueError, match='palette'), open_raster(source, 3, RasterOptions()):
        pass


def test_scale_from_is_checked():
    with pytest.raises(ValueError, match='MIN below MAX'):
        RasterOptions(scale_from=(5, 5))


def test_damaged_and_missing_files_are_named(tmp_path):
    damaged = tmp_path / 'damaged.tif'
    damaged.write_bytes(write(tmp_path / 'in.tif', colours(), photometric='rgb').read_bytes()[:900])
    for path in (damaged, tmp_path / 'missing.tif'):
        with pytest.raises(ValueError, match=path.name):
            segment_tiled(FunctionPredictor(pixel_scores), path)


@pytest.mark.parametrize('name', ['in.png', 'in.bmp'])
def test_other_formats_are_read_by_opencv(tmp_path, name, monkeypatch):
    image = np.moveaxis(colours(), 0, -1)
    cv2.imwrite(str(tmp_path / name), image)
    _hide_rasterio(monkeypatch)
    result, _ = segment_tiled(FunctionPredictor(pixel_scores), tmp_path / name)
    np.testing.assert_array_equal(result.labels, pixel_scores(image).argmax(axis=0))


def test_tiff_without_rasterio(tmp_path, monkeypatch):
    image = np.moveaxis(colours(), 0, -1)
    cv2.imwrite(str(tmp_path / 'plain.tif'), image)
    cv2.imwrite(str(tmp_path / 'deep.tif'), image.astype(np.uint16))
    _hide_rasterio(monkeypatch)
    result, _ = segment_tiled(FunctionPredictor(pixel_scores), tmp_path / 'plain.tif')
    np.testing.assert_array_equal(result.labels, pixel_scores(image).argmax(axis=0))
    with pytest.raises(ValueError, match=r'vit_dense\[geo\]'):
        segment_tiled(FunctionPredictor(pixel_scores), tmp_path / 'deep.tif')
    with pytest.raises(ValueError, match=r'out\.tif.*vit_dense\[geo\]'):
        predict_tiled(FunctionPredictor(pixel_scores), image, tmp_path / 'out.tif')


def test_arrays_have_the_given_order():
    image = np.moveaxis(colours(), 0, -1)
    predictor = FunctionPredictor(pixel_scores)
    segment_tiled(predictor, image, TileOptions(channel_order='rgb'))
    np.testing.assert_array_equal(predictor.images[0], image[..., ::-1])


def _hide_rasterio(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith('rasterio'):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, '__import__', refuse)
