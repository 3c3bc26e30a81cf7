"""The templates for small data train and validate, with data in a layout of their variables."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

from vit_dense.apis.config import build_runner, load_config

FEW = 'few_shot/'
SEGMENTATION = ['vit_upernet_small', FEW + 'plain-vit-s-dinov2_linear-ms_1xb4-100e_small-448x448']
BOXES = ['vit_atss_small', FEW + 'vit-adapter-s-dinov2-frozen_atss_1xb4-100e_small']
MASKS = ['vit_maskrcnn_small']
# timm's test model: six blocks of width 64.
TINY = {
    'model_name': 'test_vit',
    'width': 64,
    'depth': 6,
    'patch_size': 16,
    'batch_size': 2,
    'max_epochs': 1,
    'val_interval': 1,
    'model.backbone.vit.pretrained': False,
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
    'val_dataloader.num_workers': 0,
    'val_dataloader.persistent_workers': False,
    'env_cfg.mp_cfg.mp_start_method': 'spawn',
}
NAMES = ('a', 'b', 'c', 'd')


def draw(folder: Path) -> None:
    """Pictures with a bright box, and masks of values 0 and 200."""
    rng = np.random.default_rng(0)
    for name in NAMES:
        picture = rng.integers(0, 60, (72, 100, 3), np.uint8)
        mask = np.zeros((72, 100), np.uint8)
        picture[20:50, 30:70], mask[20:50, 30:70] = 220, 200
        for kind, pixels, suffix in (('pictures', picture, '.jpg'), ('labels', mask, '_L.png')):
            (folder / kind).mkdir(exist_ok=True)
            cv2.imwrite(str(folder / kind / f'{name}{suffix}'), pixels)
    (folder / 'train.txt').write_text('a\nb\n')
    (folder / 'val.txt').write_text('c\nd\n')


def annotate(folder: Path) -> None:
    box = [30, 20, 40, 30]
    outline = [30, 20, 70, 20, 70, 50, 30, 50]
    content = {
        'images': [
            {'id': number, 'file_name': f'{name}.jpg', 'width': 100, 'height': 72}
            for number, name in enumerate(NAMES, 1)
        ],
        'annotations': [
            {'id': number, 'image_id': number, 'category_id': 1, 'bbox': box, 'iscrowd': 0}
            | {'area': 1200, 'segmentation': [outline]}
            for number in range(1, 5)
        ],
        'categories': [{'id': 1, 'name': 'bright'}],
    }
    (folder / 'boxes.json').write_text(json.dumps(content))


def options(folder: Path) -> dict[str, Any]:
    return {
        **TINY,
        'data_root': str(folder),
        'train_images': 'pictures',
        'val_images': 'pictures',
        'train_list': 'train.txt',
        'val_list': 'val.txt',
        'scale': [96, 64],
    }


def read(leaf: str, given: dict[str, Any], work: Path) -> Config:
    config = load_config(f'vit_dense::{leaf}.py', work_dir=str(work))
    known = {name: value for name, value in given.items() if '.' in name or name in config}
    config = load_config(f'vit_dense::{leaf}.py', work_dir=str(work), cfg_options=known)
    config.default_hooks.pictures = None
    return config


def train(config: Config, metric: str) -> None:
    runner = build_runner(config)
    parameters = dict(runner.model.named_parameters())
    before = {name: one.detach().clone() for name, one in parameters.items()}
    with DefaultScope.overwrite_default_scope(config.default_scope):
        runner.train()
    assert runner.epoch == 1
    assert runner.iter == 1, 'two images a step, two in the list'
    moved = {name for name, one in parameters.items() if not one.equal(before[name])}
    assert any('head' in name for name in moved)
    frozen = config.model.backbone.vit.get('frozen_stages', -1) > 0
    assert any('backbone.vit' in name for name in moved) != frozen
    assert 0 <= runner.message_hub.get_scalar(f'val/{metric}').current() <= 100
    assert [*Path(config.work_dir).glob('best_*_epoch_1.pth')]


@pytest.mark.parametrize('leaf', SEGMENTATION)
def test_segmentation(leaf: str, tmp_path: Path) -> None:
    pytest.importorskip('mmseg')
    draw(tmp_path)
    given = {
        **options(tmp_path),
        'classes': ['dark', 'bright'],
        'train_masks': 'labels',
        'val_masks': 'labels',
        'seg_map_suffix': '_L.png',
        'label_map': {0: 0, 200: 1},
        'crop_size': [64, 64],
    }
    config = read(leaf, given, tmp_path / 'work')
    assert config.train_dataloader.dataset.label_map == {0: 0, 200: 1}
    assert config.model.decode_head.num_classes == 2
    train(config, 'mIoU')


@pytest.mark.parametrize(
    'leaf', [BOXES[0], *(pytest.param(one, marks=pytest.mark.slow) for one in (BOXES[1], *MASKS))]
)
def test_detection(leaf: str, tmp_path: Path) -> None:
    pytest.importorskip('mmdet')
    draw(tmp_path)
    annotate(tmp_path)
    given = {
        **options(tmp_path),
        'classes': ['bright'],
        'train_boxes': 'boxes.json',
        'val_boxes': 'boxes.json',
    }
    if leaf in BOXES:
        given['model.test_cfg.score_thr'] = 0.0  # or one step finds nothing
    train(read(leaf, given, tmp_path / 'work'), 'coco/bbox_mAP')


@pytest.mark.parametrize('leaf', [*SEGMENTATION, *BOXES, *MASKS])
def test_bands(leaf: str) -> None:
    given = {'mean': [1.0] * 5, 'std': [2.0] * 5, 'load_image': {'type': 'LoadBands'}}
    config = load_config(f'vit_dense::{leaf}.py', cfg_options=given)
    assert config.model.backbone.vit.model_kwargs.in_chans == 5
    assert config.model.data_preprocessor.bgr_to_rgb is False
    assert config.model.data_preprocessor.std == [2.0] * 5
    for pipeline in (config.train_pipeline, config.test_pipeline, config.tta_pipeline):
        assert pipeline[0] == {'type': 'LoadBands'}
    kinds = [step.type for step in config.train_dataloader.dataset.pipeline]
    assert 'PhotoMetricDistortion' not in kinds
    assert config.test_dataloader.dataset.pipeline == config.test_pipeline
    colour = load_config(f'vit_dense::{leaf}.py')
    kinds = [step.type for step in colour.train_dataloader.dataset.pipeline]
    assert 'PhotoMetricDistortion' in kinds
    assert colour.model.data_preprocessor.bgr_to_rgb is True
