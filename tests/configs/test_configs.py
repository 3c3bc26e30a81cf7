"""Every config file is short and reachable; segmentation's parse, build and say their recipes."""

import re
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from leaves import (
    BASES,
    CONFIGS,
    GREY_LEVELS,
    LEAVES,
    SEGMENTATION,
    bases_of,
    detects,
    few,
    is_other_task,
    name_of,
    read_leaf,
)
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.model import convert_sync_batchnorm
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from torch import nn
from torch.nn import SyncBatchNorm
from torch.nn.modules.batchnorm import _BatchNorm as BATCH_NORM

from vit_dense.segmentation import SegCheckHook
from vit_dense.segmentation.check_hook import iter_heads

MAX_LINES = 60
# {model}_{head}_{batch}-{schedule}_{dataset}, and -{size} where it is fixed
NAME = re.compile(
    r'[a-z0-9-]+_[a-z0-9-]+_\d+xb\d+-[a-z0-9-]+_[a-z0-9]+(?:-coco)?(?P<size>-\d+x\d+)?'
)
SLIDE = {'mode': 'slide', 'crop_size': (512, 512), 'stride': (341, 341)}


each_file = pytest.mark.parametrize('path', LEAVES, ids=name_of)
each_leaf = pytest.mark.parametrize('path', SEGMENTATION, ids=name_of)
one_of_each_kind = pytest.mark.parametrize('path', few(SEGMENTATION), ids=name_of)


@pytest.fixture(autouse=True)
def in_mmseg() -> Iterator[None]:
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@cache
def build(path: Path) -> nn.Module:
    with torch.device('meta'):
        return MODELS.build(deepcopy(read_leaf(path).model))


def test_what_must_exist() -> None:
    names = {name_of(path) for path in LEAVES}
    assert {'vit_upernet_ade20k', 'vit_upernet_camvid', 'vit_upernet_demo'} <= names
    for weights, sizes in {'deit': 'tsb', 'augreg': 'tsbl', 'dinov2': 'sbl'}.items():
        for size in sizes:
            leaf = f'vit-adapter-{size}-{weights}_upernet_8xb2-160k_ade20k-512x512'
            assert f'vit_adapter/{leaf}' in names
    assert any(name.startswith('vitdet/') and 'upernet' in name for name in names)
    assert any('frozen' in name for name in names)


def test_every_base_exists_and_is_used() -> None:
    used = {base.resolve() for path in LEAVES + BASES for base in bases_of(path)}
    assert all(base.is_file() for base in used), used
    assert not set(BASES) - used, 'a base that no config reaches'


@each_file
def test_leaf_is_short_and_well_named(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES
    assert bases_of(path), 'a leaf inherits everything that it does not change'
    if path.parent != CONFIGS:
        named = NAME.fullmatch(path.stem)
        assert named, path.stem
        if not is_other_task(path):
            assert detects(path) == (named['size'] is None), 'detectors take images of any size'


@one_of_each_kind
def test_model_builds_and_agrees_with_itself(path: Path) -> None:
    if 'lora' in path.stem:
        pytest.importorskip('peft', reason='the extra [peft] is not installed')
    config = read_leaf(path)
    model = build(path)
    SegCheckHook().before_run(SimpleNamespace(model=model))
    heads = dict(iter_heads(model))
    assert 'decode_head' in heads
    assert {head.num_classes for head in heads.values()} == {config.num_classes}
    assert tuple(config.model.data_preprocessor.size) == tuple(config.crop_size)


@each_leaf
def test_weights_exist_and_images_are_normalised_as_theirs(path: Path) -> None:
    config = read_leaf(path)
    vit = config.model.backbone.get('vit', config.model.backbone)
    weights = timm.get_pretrained_cfg(vit.model_name)
    assert weights is not None
    if vit.pretrained:
        assert weights.has_weights
    preprocessor = config.model.data_preprocessor
    for values, expected in ((preprocessor.mean, weights.mean), (preprocessor.std, weights.std)):
        assert list(values) == pytest.approx([GREY_LEVELS * value for value in expected], abs=1e-2)


@each_leaf
def test_schedule_is_whole(path: Path) -> None:
    config = read_leaf(path)
    warm_up, decay = config.param_scheduler
    by_epoch = config.train_cfg.type == 'EpochBasedTrainLoop'
    length = config.train_cfg.max_epochs if by_epoch else config.train_cfg.max_iters
    assert decay.get('by_epoch', by_epoch) == by_epoch
    assert config.default_hooks.checkpoint.by_epoch == by_epoch
    assert warm_up.type == 'LinearLR'
    assert warm_up.begin == 0
    if decay.type == 'ReduceOnPlateauLR':
        assert decay.monitor == config.default_hooks.checkpoint.save_best
    else:
        assert decay.type in ('PolyLR', 'CosineAnnealingLR')
        assert warm_up.end == decay.begin or (decay.by_epoch and decay.begin == 0)
        assert decay.end == length
    assert length % config.train_cfg.val_interval == 0
    assert config.default_hooks.checkpoint.interval == config.train_cfg.val_interval
    assert config.default_hooks.checkpoint.save_best == 'mIoU'
    assert config.optim_wrapper.constructor == 'LayerDecayOptimWrapperConstructor'


@each_leaf
def test_data_is_complete_and_transforms_exist(path: Path) -> None:
    config = read_leaf(path)
    for pipeline in (config.train_pipeline, config.test_pipeline, config.tta_pipeline):
        Compose(pipeline)
    train, val, test = (config[f'{split}_dataloader'] for split in ('train', 'val', 'test'))
    innermost = train.dataset.get('dataset', train.dataset)  # of FixedViews
    assert innermost.pipeline == config.train_pipeline
    assert val.dataset.pipeline == config.test_pipeline
    assert val == test
    assert config.tta_model.type == 'SegTTAModel'
    assert config.default_scope == 'mmseg'
    # the heads of released models, which need mmseg, in a module of their own
    others = ['vit_dense.released.mask2former'] * (config.model.decode_head.type.startswith('Rel'))
    assert config.custom_imports['imports'] == ['vit_dense.segmentation', *others]


# lr, weight decay, layer decay, drop path, deform heads, deform ratio, width
RECIPES: dict[str, tuple[Any, ...]] = {
    'vit-adapter-t-deit': (1.2e-4, 0.01, 0.95, 0.1, 6, 1.0, 192),
    'vit-adapter-t-augreg': (1.2e-4, 0.01, 0.95, 0.1, 6, 1.0, 192),
    'vit-adapter-s-deit': (6e-5, 0.01, 0.95, 0.2, 6, 1.0, 384),
    'vit-adapter-s-augreg': (6e-5, 0.01, 0.95, 0.2, 6, 1.0, 384),
    'vit-adapter-s-dinov2': (6e-5, 0.05, 0.7, 0.2, 6, 1.0, 384),
    'vit-adapter-b-deit': (6e-5, 0.01, 0.95, 0.3, 12, 0.5, 768),
    'vit-adapter-b-augreg': (2e-5, 0.01, 1.0, 0.3, 12, 0.5, 768),
    'vit-adapter-b-dinov2': (6e-5, 0.05, 0.6, 0.3, 12, 0.5, 768),
    'vit-adapter-l-augreg': (2e-5, 0.05, 0.95, 0.4, 16, 0.5, 1024),
    'vit-adapter-l-dinov2': (6e-5, 0.05, 0.65, 0.4, 16, 0.5, 1024),
}


@pytest.mark.parametrize('model', RECIPES)
def test_recipe(model: str) -> None:
    path = CONFIGS / 'vit_adapter' / f'{model}_upernet_8xb2-160k_ade20k-512x512.py'
    config = read_leaf(path)
    wrapper, backbone = config.optim_wrapper, config.model.backbone
    assert (
        wrapper.optimizer.lr,
        wrapper.optimizer.weight_decay,
        wrapper.paramwise_cfg.layer_decay_rate,
        backbone.vit.drop_path_rate,
        backbone.deform_num_heads,
        backbone.deform_ratio,
        config.model.decode_head.in_channels[0],
    ) == RECIPES[model]
    assert wrapper.optimizer.type == 'AdamW'
    assert tuple(wrapper.optimizer.betas) == (0.9, 0.999)
    assert backbone.vit_feature_source == 'stages', 'what the segmentation releases add'
    assert config.param_scheduler[0].end == 1500
    assert config.param_scheduler[1].power == 1.0
    assert config.train_cfg.max_iters == 160_000
    assert config.model.test_cfg == SLIDE
    assert config.auto_scale_lr == {'enable': False, 'base_batch_size': 16}
    assert config.train_dataloader.batch_size == 2, 'on eight processes'


def test_flagship_has_the_weights_and_recipe_it_tells() -> None:
    flagship = Config.fromfile(CONFIGS / 'vit_upernet_ade20k.py', import_custom_modules=False)
    vit = flagship.model.backbone.vit
    assert vit.model_name == 'vit_base_patch16_224.augreg_in21k_ft_in1k'
    assert flagship.optim_wrapper.optimizer.lr == 6e-5
    assert flagship.optim_wrapper.paramwise_cfg.layer_decay_rate == 0.95


def test_released_augreg_recipe_has_faster_heads() -> None:
    (path,) = CONFIGS.rglob('vit-adapter-b-augreg_upernet_8xb2-160k*.py')
    config = read_leaf(path)
    assert config.model.backbone.vit.model_name == 'vit_base_patch16_384.augreg_in21k_ft_in1k'
    assert config.optim_wrapper.paramwise_cfg.custom_keys == {'head': {'lr_mult': 10.0}}


@each_leaf
def test_tta_has_the_scale_of_the_plain_test(path: Path) -> None:
    config = read_leaf(path)
    scales = [t.scale for t in config.tta_pipeline[1].transforms[0]]
    assert next(t.scale for t in config.test_pipeline if t.type == 'Resize') in scales


def test_accumulation_takes_the_same_number_of_updates() -> None:
    flagship = Config.fromfile(CONFIGS / 'vit_upernet_ade20k.py', import_custom_modules=False)
    (path,) = CONFIGS.rglob('*accum4*.py')
    config = read_leaf(path)
    counts = config.optim_wrapper.accumulative_counts
    assert config.train_dataloader.batch_size * counts == flagship.auto_scale_lr.base_batch_size
    assert config.train_cfg.max_iters == counts * flagship.train_cfg.max_iters
    for own, theirs in zip(config.param_scheduler, flagship.param_scheduler, strict=True):
        assert own.end == counts * theirs.end


@pytest.mark.parametrize(
    'path', [path for path in SEGMENTATION if 'frozen_upernet' in path.stem], ids=name_of
)
def test_frozen_leaf_trains_nothing_of_the_vit(path: Path) -> None:
    model = build(path)
    assert not any(p.requires_grad for p in model.backbone.vit.parameters())
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert any(name.startswith('backbone.') for name in trained)
    assert any(name.startswith('decode_head.') for name in trained)
    patch = model.backbone.vit.patch_size
    own = {'dinov2': 14, 'tipsv2': 14}.get(path.stem.split('-')[3], 16)
    assert patch == own, 'resized kernels would need training'
    assert all(edge % patch == 0 for edge in model.data_preprocessor.size)


def test_several_processes_share_their_batch_statistics() -> None:
    config = Config.fromfile(CONFIGS / 'vit_upernet_demo.py')
    model = MODELS.build(config.model)
    before = [name for name, module in model.named_modules() if isinstance(module, BATCH_NORM)]
    # What the Runner does with this key where training is distributed.
    model = convert_sync_batchnorm(model, config.sync_bn)
    after = [name for name, module in model.named_modules() if isinstance(module, SyncBatchNorm)]
    assert before == after != []


def test_own_data_set_needs_one_list_of_classes() -> None:
    text = (CONFIGS / 'vit_upernet_custom.py').read_text()
    classes, palette = ('a', 'b', 'c'), [[0, 0, 0], [1, 1, 1], [2, 2, 2]]
    text = re.sub(r'classes = \(.*\)', f'classes = {classes}', text)
    text = re.sub(r'palette = \[.*\]', f'palette = {palette}', text)
    text = text.replace("'./vit_upernet_ade20k.py'", "'vit_dense::vit_upernet_ade20k.py'")
    config = Config.fromstring(text, '.py')
    assert config.model.decode_head.num_classes == 3
    assert config.model.auxiliary_head.num_classes == 3
    for split in ('train', 'val', 'test'):
        assert config[f'{split}_dataloader'].dataset.metainfo.classes == classes
