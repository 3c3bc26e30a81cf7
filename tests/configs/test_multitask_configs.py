"""Every multi-task config builds and agrees with itself, its tasks' data and single models."""

from copy import deepcopy
from pathlib import Path

import pytest
import timm
import torch
from leaves import CONFIGS, GREY_LEVELS, MULTITASK, few, name_of, read_leaf
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, DefaultScope
from test_unused_parameters import EDGE, WIDTH, batch, set_sizes, set_widths

from vit_dense.multitask import MultiTaskCheckHook
from vit_dense.weights.tasks import take_task

each_leaf = pytest.mark.parametrize('path', MULTITASK, ids=name_of)
one_of_each_kind = pytest.mark.parametrize('path', few(MULTITASK), ids=name_of)


def test_what_must_exist() -> None:
    names = {name_of(path) for path in MULTITASK}
    assert 'vit_multitask_demo' in names
    assert any('ade20k-coco' in name for name in names)
    assert any('coco128' in name for name in names)


@one_of_each_kind
def test_model_builds_and_agrees_with_itself(path: Path) -> None:
    config = read_leaf(path)
    with torch.device('meta'):
        model = MODELS.build(deepcopy(config.model))
    hook = MultiTaskCheckHook(config.default_hooks.check.hooks)
    hook.check_model(model)
    assert model.tasks['det'].roi_head.bbox_head.num_classes == config.get('num_classes', 80)
    weights = timm.get_pretrained_cfg(config.model.backbone.vit.model_name)
    for task in config.model.tasks.values():
        given = task.data_preprocessor
        for values, expected in ((given.mean, weights.mean), (given.std, weights.std)):
            assert list(values) == pytest.approx([GREY_LEVELS * v for v in expected], abs=1e-2)
    assert tuple(config.model.tasks.seg.data_preprocessor.size) == tuple(config.crop_size)


@each_leaf
def test_data_and_schedule_are_whole(path: Path) -> None:
    config = read_leaf(path)
    train, length = config.train_dataloader, config.train_cfg.max_iters
    parts = train.dataset.datasets
    assert {*parts} == {*config.model.tasks} == {*config.val_dataloader} == {*config.val_evaluator}
    counts = train.sampler.get('per_batch')
    assert (counts is None) == (train.dataset.type == 'JointDataset')
    assert counts is None or sum(counts.values()) == train.batch_size
    for name, part in parts.items():
        scope, kind = part.type.split('.')
        assert config.model.tasks[name].type.startswith(f'{scope}.')
        assert config.val_dataloader[name].dataset.type == kind
        for pipeline in (part.pipeline, config.val_dataloader[name].dataset.pipeline):
            with DefaultScope.overwrite_default_scope(scope):
                Compose(pipeline)
    assert config.test_dataloader == config.val_dataloader
    assert config.param_scheduler[-1].end == length
    assert length % config.train_cfg.val_interval == 0
    assert config.default_hooks.checkpoint.interval == config.train_cfg.val_interval
    assert config.default_hooks.checkpoint.save_best == 'seg/mIoU'


@pytest.mark.parametrize(
    ('several', 'single'),
    [
        pytest.param('vit_multitask_demo', 'vit_upernet_demo', marks=pytest.mark.slow),
        ('vit_multitask_demo', 'vit_maskrcnn_demo'),
        pytest.param('8xb4-160k_ade20k-coco', 'vit_upernet_ade20k', marks=pytest.mark.slow),
        pytest.param('8xb4-160k_ade20k-coco', 'vit_maskrcnn_coco', marks=pytest.mark.slow),
    ],
)
def test_configs_of_single_tasks_fit_the_checkpoint(several: str, single: str) -> None:
    """With the backbone of the multi-task config, as docs/multitask.md says."""
    config = read_leaf(next(path for path in MULTITASK if several in path.stem))
    alone = deepcopy(read_leaf(CONFIGS / f'{single}.py'))
    alone.model.backbone = deepcopy(config.model.backbone)
    with torch.device('meta'):
        content = {'state_dict': MODELS.build(deepcopy(config.model)).state_dict()}
        with DefaultScope.overwrite_default_scope(alone.default_scope):
            model = MODELS.build(alone.model)
    content['state_dict'] = {k: torch.empty(v.shape) for k, v in content['state_dict'].items()}
    take_task(content, model)
    assert content['state_dict'].keys() == model.state_dict().keys()


@pytest.mark.slow
@pytest.mark.usefixtures('process_group')
@each_leaf
def test_every_parameter_is_used(path: Path) -> None:
    config = Config.fromfile(path)
    model = config.model
    model.backbone.vit.update(model_name='test_vit', pretrained=False, window_size=None)
    model.backbone.update(deform_num_heads=4, conv_inplane=16)
    for task in model.tasks.values():
        set_widths(task, WIDTH)
        set_sizes(task)
    model.tasks.seg.data_preprocessor.size = (EDGE, EDGE)
    built = MODELS.build(model)
    wrapped = MMDistributedDataParallel(built.train())
    optimizer = OptimWrapper(torch.optim.SGD(built.parameters(), lr=1e-4))
    seg, det = batch(detector=False), batch(detector=True)
    samples = {'seg': seg['data_samples'], 'det': det['data_samples']}
    for _ in range(2):
        given = deepcopy({'inputs': seg['inputs'], 'data_samples': samples})
        assert torch.isfinite(wrapped.train_step(given, optimizer)['loss'])
