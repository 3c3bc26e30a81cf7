"""Tiles and slices of models of mmseg and mmdet."""

import cv2
import numpy as np
import pytest
import torch

from vit_dense.apis import load_config, load_model
from vit_dense.runtime import Item, PredictOptions
from vit_dense.runtime.slices import SliceOptions, predict_sliced
from vit_dense.runtime.tiles import TileOptions, segment_tiled

NAMES = [f'class {i}' for i in range(5)]
# Windows of 2 x 2 patches in each block, and nothing that depends on the place in the image.
LOCAL = {
    'window_size': 2,
    'global_blocks': [],
    'model_kwargs': {'pos_embed': 'none', 'class_token': False, 'global_pool': 'avg'},
}
# Multiples of 4: otherwise heads stretch maps of stride 4 a little to the size of the image.
IMAGE = np.random.default_rng(0).integers(0, 256, (332, 460, 3), np.uint8)


def segmentor(**vit):
    """A tiny random ViT, a pyramid and a linear layer on its first map; crops of 128 px."""
    torch.manual_seed(0)
    config = load_config('configs/vit_upernet_demo.py')
    vit = {'type': 'TimmViT', 'model_name': 'test_vit', **vit}
    config.model.backbone = {'type': 'SimpleFeaturePyramid', 'vit': vit, 'out_channels': 16}
    config.model.decode_head = {
        'type': 'LinearHead',
        'in_channels': 16,
        'in_index': 0,
        'num_classes': len(NAMES),
    }
    config.model.auxiliary_head = None
    config.test_dataloader.dataset.metainfo = {'classes': NAMES, 'palette': None}
    return load_model(config, device='cpu', require_checkpoint=False)


def differing(predictor, options):
    """Share of the labels that differ from those of the whole image, and the summary."""
    whole = predictor.tile_model().predictor.predict(IMAGE)
    assert len(np.unique(whole.labels)) > 2
    tiled, summary = segment_tiled(predictor, IMAGE, options)
    return float((tiled.labels != whole.labels).mean()), summary


def test_windowed_models_have_no_seams():
    """Beyond each blended zone are 16 px of tile: the 8 px that maps of stride 4 see, and more."""
    model = segmentor(**LOCAL)
    share, summary = differing(model, TileOptions(tile=128, overlap=64))
    assert summary.tiles == 5 * 7
    # Products of matrices of other sizes round differently.
    assert share < 1e-4
    assert summary.disagreement < 1e-4


def test_the_disagreement_of_global_models_is_reported():
    share, summary = differing(segmentor(), TileOptions(tile=128, overlap=64))
    assert share > 1e-3
    assert summary.disagreement > 1e-3


def test_tiles_that_start_inside_a_window_would_differ(monkeypatch):
    """The first test can fail."""
    model = segmentor(**LOCAL)
    monkeypatch.setattr('vit_dense.apis.large_images._window', lambda module: 8)
    share, summary = differing(model, TileOptions(tile=128, overlap=56))
    assert share > 1e-3
    assert summary.disagreement > 1e-3


@pytest.mark.parametrize(
    ('vit', 'align'),
    [({}, 32), ({'window_size': 2}, 32), ({'window_size': 3}, 1), ({'window_size': [4] * 6}, 64)],
)
def test_tiles_start_where_windows_of_the_whole_image_do(vit, align):
    """Windows of 3 patches, with stride 32, repeat after 96 px: more than half a tile."""
    model = segmentor(**vit).tile_model()
    assert (model.tile, model.align, model.channels, model.threshold) == (128, align, 3, None)


def test_tiles_are_not_resized():
    predictor = segmentor()
    item, options = Item('image', array=IMAGE), PredictOptions()
    assert predictor.prepare(item, options).shape != (3, *IMAGE.shape[:2])
    assert predictor.tile_model().predictor.prepare(item, options).shape == (3, *IMAGE.shape[:2])
    steps = predictor.config.test_dataloader.dataset.pipeline
    assert 'Resize' in [step.type for step in steps]  # the model itself is unchanged


def test_a_single_output_keeps_its_threshold():
    config = load_config('configs/vit_upernet_demo.py')
    config.model.decode_head.update(num_classes=2, out_channels=1, threshold=0.4)
    config.model.decode_head.loss_decode = {'type': 'CrossEntropyLoss', 'use_sigmoid': True}
    config.model.auxiliary_head = None
    config.test_dataloader.dataset.metainfo = {'classes': ('no', 'yes'), 'palette': None}
    predictor = load_model(config, device='cpu', require_checkpoint=False)
    assert predictor.tile_model().threshold == 0.4
    tiled, _ = segment_tiled(predictor, IMAGE, TileOptions(tile=512))
    whole = predictor.tile_model().predictor.predict(IMAGE, scores=True)
    assert 0.1 < (whole.scores[0] > 0.4).mean() < 0.9
    np.testing.assert_array_equal(tiled.labels, whole.scores[0] > 0.4)


def test_slices_of_a_real_detector():
    torch.manual_seed(0)
    config = load_config('configs/vit_maskrcnn_demo.py')
    config.model.test_cfg.rcnn.score_thr = 0.0
    predictor = load_model(config, device='cpu', require_checkpoint=False)
    image = IMAGE[:200, :240]
    result = predict_sliced(predictor, image, SliceOptions(slice_size=160, score_threshold=0.0))
    assert len(result) > 0
    assert result.masks.shape == (len(result), 200, 240)
    assert result.boxes.min() >= 0
    assert (result.boxes[:, 2:] <= [240, 200]).all()
    # Slices at the lower right have objects there.
    assert (result.boxes[:, 2:] > 160).all(axis=1).any()
    everything = predictor.predict(image[-160:, -160:]).boxes + np.array([80, 40] * 2)
    covered = [
        ((result.boxes[:, :2] <= box[:2] + 0.01) & (result.boxes[:, 2:] >= box[2:] - 0.01)).all(1)
        for box in everything
    ]
    assert all(one.any() for one in covered)  # merging makes boxes larger, never smaller


class LoadNegative:
    """A loader that reads other pixels than OpenCV."""

    def __call__(self, sample):
        image = 255 - cv2.imread(sample['img_path'])
        shapes = {'img_shape': image.shape[:2], 'ori_shape': image.shape[:2]}
        return {**sample, **shapes, 'img': image}


def test_tiles_and_slices_are_read_by_the_loader_of_the_config(tmp_path):
    path = tmp_path / 'image.png'
    cv2.imwrite(str(path), IMAGE)
    predictor = segmentor()
    predictor.config.test_dataloader.dataset.pipeline[0] = {'type': LoadNegative}
    of_file, _ = segment_tiled(predictor, str(path))
    of_array, _ = segment_tiled(predictor, 255 - IMAGE)
    np.testing.assert_array_equal(of_file.labels, of_array.labels)
    assert (segment_tiled(predictor, IMAGE)[0].labels != of_file.labels).any()
    np.testing.assert_array_equal(predictor.read(str(path)), 255 - IMAGE)


def test_bands_and_their_scale_are_those_of_training(tmp_path):
    """Twelve bits, and another order than in the file: as `LoadBands` in the test pipeline."""
    rasterio = pytest.importorskip('rasterio')
    path = str(tmp_path / 'image.tif')
    deep = IMAGE.astype(np.uint16) * 16
    size = {'height': IMAGE.shape[0], 'width': IMAGE.shape[1], 'count': 4, 'dtype': 'uint16'}
    with rasterio.open(path, 'w', driver='GTiff', crs='EPSG:32633', **size) as file:
        file.write(np.moveaxis(deep[..., [0, 1, 2, 0]], -1, 0))
    predictor = segmentor()
    loader = {'type': 'LoadBands', 'bands': [3, 2, 1], 'max_value': 255 * 16}
    predictor.config.test_dataloader.dataset.pipeline[0] = loader
    whole = predictor.tile_model().predictor
    expected = whole.predict(IMAGE).labels
    assert len(np.unique(expected)) > 2
    np.testing.assert_array_equal(whole.predict(path).labels, expected)
    options = TileOptions(tile=512)
    np.testing.assert_array_equal(segment_tiled(predictor, path, options)[0].labels, expected)
    bands = segmentor(model_kwargs={'in_chans': 4})
    bands.config.test_dataloader.dataset.pipeline[0] = loader
    with pytest.raises(ValueError, match=r'scale arrays to 0\.\.255'):
        bands.predict(deep[..., [0, 1, 2, 0]])
    bands.config.test_dataloader.dataset.pipeline[0] = {'type': 'LoadBands', 'max_value': 1}
    with pytest.raises(ValueError, match=r'scale arrays to 0\.\.255'):
        bands.predict((IMAGE[..., [0, 1, 2, 0]] / 255).astype(np.float32))
