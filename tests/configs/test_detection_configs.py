"""Every detection config parses, builds and agrees with itself; recipes: test_detection_recipes."""

import re
from pathlib import Path

import pytest
import timm
from detectors import build, read
from leaves import CONFIGS, DETECTION, GREY_LEVELS, few, name_of, read_leaf
from mmengine.config import Config
from mmengine.dataset import Compose

import vit_dense.detection  # noqa: F401 - registers what the configs name
from vit_dense.detection.check_hook import iter_heads, neck_channels

COCO = [path for path in DETECTION if path.stem.endswith('_coco')]

each_leaf = pytest.mark.parametrize('path', DETECTION, ids=name_of)
one_of_each_kind = pytest.mark.parametrize('path', few(DETECTION), ids=name_of)
each_coco_leaf = pytest.mark.parametrize('path', COCO, ids=name_of)
pytestmark = pytest.mark.usefixtures('in_mmdet')


def test_what_must_exist() -> None:
    names = {name_of(path) for path in DETECTION}
    assert {'vit_maskrcnn_coco', 'vit_maskrcnn_custom', 'vit_atss_custom'} <= names
    recipes = [f'{size}-deit_mask-rcnn_8xb2-{times}' for size in 'tsb' for times in ('1x', '3x')]
    recipes += [f'l-augreg_mask-rcnn_8xb2-{times}' for times in ('1x', '3x')]
    recipes += [f'{size}-augreg_mask-rcnn_8xb2-{times}' for size in 'tsb' for times in ('1x', '3x')]
    recipes += [f'{size}-dinov2_mask-rcnn_8xb2-{times}' for size in 'sbl' for times in ('1x', '3x')]
    recipes += [f'{size}-deit_cascade-mask-rcnn_8xb2-3x' for size in 'sb']
    recipes += [f's-deit_{head}_8xb2-1x' for head in ('faster-rcnn', 'retinanet')]
    recipes += ['s-deit_atss_8xb2-3x', 's-deit_dino-4scale_8xb2-12e']
    assert {f'vit_adapter/vit-adapter-{recipe}_coco' for recipe in recipes} <= names
    for size in 'bl':
        for head in ('mask-rcnn', 'cascade-mask-rcnn'):
            assert f'vitdet/vitdet-{size}-mae_{head}_8xb8-lsj-100e_coco' in names


@one_of_each_kind
def test_model_builds_and_agrees_with_itself(path: Path) -> None:
    config = read_leaf(path)
    model = build(config)
    heads = dict(iter_heads(model))
    assert set(heads.values()) == {config.num_classes}
    queries = hasattr(model, 'panoptic_head')  # of masks, without a neck
    if queries:
        assert config.model.panoptic_head.in_channels == list(model.backbone.out_channels)
        assert len(model.panoptic_head.class_weight) == config.num_classes + 1
    else:
        assert neck_channels(model.neck) == list(model.backbone.out_channels)
        assert any(name.endswith('bbox_head') or 'bbox_head.' in name for name in heads)
    masks = queries or getattr(getattr(model, 'roi_head', None), 'with_mask', False)
    assert masks == ('segm' in config.val_evaluator.metric), 'what is learned is evaluated'


@each_leaf
def test_weights_exist_and_images_are_normalised_as_theirs(path: Path) -> None:
    config = read_leaf(path)
    vit = config.model.backbone.get('vit', config.model.backbone)
    weights = timm.get_pretrained_cfg(vit.model_name)
    assert weights is not None
    if vit.pretrained:
        assert weights.has_weights
    preprocessor = config.model.data_preprocessor
    assert preprocessor.bgr_to_rgb
    for values, expected in ((preprocessor.mean, weights.mean), (preprocessor.std, weights.std)):
        assert list(values) == pytest.approx([GREY_LEVELS * value for value in expected], abs=1e-2)


@each_leaf
def test_schedule_is_whole(path: Path) -> None:
    config = read_leaf(path)
    by_epoch = config.train_cfg.type == 'EpochBasedTrainLoop'
    length = config.train_cfg.max_epochs if by_epoch else config.train_cfg.max_iters
    decay = config.param_scheduler[-1]
    assert decay.end == length
    assert all(0 < step < length for step in decay.get('milestones', []))
    assert decay.get('by_epoch') == by_epoch
    for warm_up in config.param_scheduler[:-1]:
        assert (warm_up.type, warm_up.by_epoch, warm_up.begin) == ('LinearLR', False, 0)
    assert length % config.train_cfg.val_interval == 0, 'the last model is evaluated'
    hooks = config.default_hooks
    assert config.log_processor.by_epoch == hooks.logger.log_metric_by_epoch == by_epoch
    assert hooks.checkpoint.by_epoch == by_epoch
    assert hooks.checkpoint.interval == config.train_cfg.val_interval
    if path.stem.endswith('_coco'):
        assert hooks.checkpoint.save_best == 'coco/bbox_mAP'
    assert config.optim_wrapper.constructor == 'LayerDecayOptimWrapperConstructor'


@each_leaf
def test_data_is_complete_and_transforms_exist(path: Path) -> None:
    config = read_leaf(path)
    for name in ('train_pipeline', 'test_pipeline', 'tta_pipeline'):
        if name in config:
            Compose(config[name])
    train, val, test = (config[f'{split}_dataloader'] for split in ('train', 'val', 'test'))
    assert train.dataset.pipeline == config.train_pipeline
    assert val.dataset.pipeline == config.test_pipeline
    assert val.dataset.test_mode
    assert val == test
    assert config.val_evaluator == config.test_evaluator
    assert config.val_evaluator.type == 'CheckedCocoMetric'
    assert 'ann_file' not in config.val_evaluator, 'the metric takes what the data set reads'
    assert config.tta_model.type == 'BoxTTAModel'
    assert config.default_scope == 'mmdet'
    assert config.custom_imports['imports'] == ['vit_dense.detection']
    assert config.default_hooks.check.type == 'DetCheckHook'
    assert config.default_hooks.pictures.type == 'DetPicturesHook'
    assert not any('Seg' in name for name in re.findall(r"'type': '(\w+)'", repr(config)))


@each_coco_leaf
def test_coco_is_whole_and_its_own_bad_boxes_are_skipped(path: Path) -> None:
    config = read_leaf(path)
    assert config.num_classes == 80
    for split, name in (('train', 'train2017'), ('val', 'val2017')):
        dataset = config[f'{split}_dataloader'].dataset
        assert dataset.type == 'CheckedCocoDataset'
        assert dataset.bad_boxes == 'skip'
        assert dataset.ann_file == f'annotations/instances_{name}.json'
        assert dataset.data_prefix == {'img': name}


def test_flagship_is_the_leaf_of_its_name_and_short() -> None:
    path = CONFIGS / 'vit_maskrcnn_coco.py'
    assert len(path.read_text().splitlines()) <= 60
    systematic = read('vit_adapter/vit-adapter-b-deit_mask-rcnn_8xb2-3x_coco')
    assert read('vit_maskrcnn_coco').to_dict() == systematic.to_dict()


def test_tta_has_the_scale_of_the_plain_test() -> None:
    for path in DETECTION:
        config = read_leaf(path)
        if 'tta_pipeline' in config:
            scales = [step.scale for step in config.tta_pipeline[1].transforms[0]]
            plain = next(step.scale for step in config.test_pipeline if step.type == 'Resize')
            assert plain in scales, path


@pytest.mark.parametrize('name', ['vit_maskrcnn_custom', 'vit_atss_custom'])
def test_own_data_set_needs_one_list_of_classes(name: str) -> None:
    text = (CONFIGS / f'{name}.py').read_text()
    assert text.count('classes = (') == 1
    classes = ('a', 'b', 'c', 'd', 'e')
    text = re.sub(r'classes = \(.*\)', f'classes = {classes}', text)
    text = text.replace("_base_ = './", "_base_ = 'vit_dense::")
    config = Config.fromstring(text, '.py')
    assert set(dict(iter_heads(build(config))).values()) == {len(classes)}
    for split in ('train', 'val', 'test'):
        dataset = config[f'{split}_dataloader'].dataset
        assert dataset.metainfo.classes == classes
        assert dataset.bad_boxes == 'error', 'which COCO itself may skip'
        assert dataset.data_root == 'data/custom'
        assert 'coco' not in dataset.ann_file + dataset.data_prefix.img
    assert config.test_evaluator.type == 'CheckedCocoMetric'
    assert 'ann_file' not in config.test_evaluator, 'the metric takes what the data set reads'
