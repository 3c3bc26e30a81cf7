"""The configs of pretraining build, fit together and have the published recipe."""

from copy import deepcopy
from pathlib import Path

import pytest
import timm
import torch
from leaves import GREY_LEVELS, PRETRAINING, name_of, read_leaf
from mmengine.dataset import Compose
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, DefaultScope

from vit_dense.apis import load_config
from vit_dense.engine.layer_decay import LayerDecayOptimWrapperConstructor

each = pytest.mark.parametrize('path', PRETRAINING, ids=name_of)


def build(path: Path) -> torch.nn.Module:
    model = deepcopy(read_leaf(path).model)
    for part in {'vit', 'teacher'} & model.keys():
        model[part].model_kwargs = dict(model[part].get('model_kwargs', {}), depth=1)
    with DefaultScope.overwrite_default_scope('mmengine'), torch.device('meta'):
        return MODELS.build(model)


def test_what_must_exist() -> None:
    names = ' '.join(path.stem for path in PRETRAINING)
    for part in ('mae_vit-s_', 'mae_vit-b_', 'continued', 'distilled', 'cpu'):
        assert part in names


@each
def test_parts_fit_each_other(path: Path) -> None:
    config, model = read_leaf(path), build(path)
    weights = timm.get_pretrained_cfg(config.model.vit.model_name)
    for name in ('mean', 'std'):
        expected = [GREY_LEVELS * value for value in getattr(weights, name)]
        assert list(config.model.data_preprocessor[name]) == pytest.approx(expected, abs=1e-2)
    assert config.image_size % model.vit.patch_size == 0
    for pipeline in (config.train_pipeline, config.probe_pipeline):
        Compose(pipeline)
    assert config.train_dataloader.dataset.pipeline == config.train_pipeline
    assert [step['type'].split('.')[-1] for step in config.train_pipeline[2:4]] == [
        'RandomResizedCrop',
        'RandomHorizontalFlip',
    ]
    assert config.train_pipeline[2].scale == (0.2, 1.0)
    assert config.train_pipeline[2].interpolation == 3  # Pillow's number of bicubic
    for part in {'vit', 'teacher'} & config.model.keys():
        if config.model[part].pretrained:
            assert timm.get_pretrained_cfg(config.model[part].model_name).has_weights


@each
def test_recipe(path: Path) -> None:
    config = read_leaf(path)
    optimizer = config.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.betas, optimizer.weight_decay) == ('AdamW', (0.9, 0.95), 0.05)
    assert config.optim_wrapper.paramwise_cfg == {'layer_decay_rate': 1.0}
    warm_up, cosine = config.param_scheduler
    assert (warm_up.begin, warm_up.end) == (0, cosine.begin)
    assert cosine.end == config.train_cfg.max_epochs == config.max_epochs
    assert config.max_epochs % config.val_interval == 0
    assert config.default_hooks.checkpoint.interval == config.val_interval
    if 'xb512' in path.stem:
        assert optimizer.lr == 1.5e-4
        assert (warm_up.end, config.max_epochs) == (40, 800)
        assert config.auto_scale_lr == {'enable': True, 'base_batch_size': 256}
        assert config.model.mask_ratio == 0.75
        assert config.model.decoder == {'width': 512, 'depth': 8, 'heads': 16}
        assert config.model.norm_pixels
        assert not config.model.vit.pretrained
    batch, epochs = path.stem.split('_')[2].split('-')
    assert int(batch.split('b')[1]) == config.batch_size == config.train_dataloader.batch_size
    assert epochs == f'{config.max_epochs}e'


def test_norms_biases_and_tokens_have_no_weight_decay() -> None:
    path = next(path for path in PRETRAINING if 'vit-b' in path.stem)
    wrapper = read_leaf(path).optim_wrapper
    build_wrapper = LayerDecayOptimWrapperConstructor(
        {k: v for k, v in wrapper.items() if k not in ('constructor', 'paramwise_cfg')},
        wrapper.paramwise_cfg,
    )
    model = build(path)
    groups = build_wrapper(model).param_groups
    free = {id(p) for group in groups if group['weight_decay'] == 0 for p in group['params']}
    decayed = {id(p) for group in groups if group['weight_decay'] == 0.05 for p in group['params']}
    assert {group['lr'] for group in groups} == {1.5e-4}
    for name, parameter in model.named_parameters():
        exempt = parameter.ndim == 1 or name.endswith(('pos_embed', 'cls_token', 'mask_token'))
        assert id(parameter) in (free if exempt else decayed), name


def test_variables_reach_their_places() -> None:
    (path,) = (path for path in PRETRAINING if 'cpu' in path.stem)
    assert read_leaf(path).val_cfg is None
    options = {'data_root': ['a', 'b'], 'probe_root': 'c', 'image_size': 96, 'num_workers': 0}
    options['probe_labels'] = {'label_map': {0: 1}, 'ignore_index': 9}
    options |= {'mean': [1.0] * 5, 'std': [2.0] * 5, 'max_epochs': 7, 'warm_up': 2}
    config = load_config(f'vit_dense::{name_of(path)}.py', cfg_options=options)
    assert config.train_dataloader.dataset.data_root == ['a', 'b']
    assert config.train_pipeline[2]['size'] == 96
    assert config.probe_pipeline[3]['size'] == (96, 96)
    labels = {'type': 'LoadProbeMask', 'label_map': {0: 1}, 'ignore_index': 9}
    assert config.probe_pipeline[1] == labels
    assert config.model.vit.model_kwargs == {'depth': 8, 'in_chans': 5}
    assert list(config.model.data_preprocessor.mean) == [1.0] * 5
    assert [one.end for one in config.param_scheduler] == [2, 7]
    for split in ('val', 'test'):
        assert config[f'{split}_dataloader'].dataset.data_root == 'c'
        assert config[f'{split}_evaluator'].type == 'FeatureProbe'
        assert config[f'{split}_cfg'] is not None
        assert not config[f'{split}_dataloader'].persistent_workers


def test_the_warm_up_follows_the_length() -> None:
    """Also in short trainings, which have none; `warm_up = 0` leaves it out."""
    (path,) = (path for path in PRETRAINING if 'cpu' in path.stem)
    for options, ends in (
        ({'max_epochs': 60}, [3, 60]),
        ({'max_epochs': 4}, [4]),
        ({'warm_up': 0}, [200]),
    ):
        config = load_config(f'vit_dense::{name_of(path)}.py', cfg_options=options)
        assert [one.end for one in config.param_scheduler] == ends
        assert config.param_scheduler[-1].begin == (ends[-2] if ends[1:] else 0)


def test_rate_follows_the_batch() -> None:
    """The published rule: 1.5e-4 x batch / 256."""
    config = read_leaf(next(path for path in PRETRAINING if 'vit-b' in path.stem))
    images, base = 8 * config.batch_size, config.auto_scale_lr.base_batch_size
    assert config.optim_wrapper.optimizer.lr * images / base == pytest.approx(2.4e-3)


@each
@pytest.mark.usefixtures('process_group')
def test_every_parameter_is_used(path: Path) -> None:
    """DDP complains at the second step of those that are not."""
    small = deepcopy(read_leaf(path).model)
    small.decoder = {'width': 16, 'depth': 1, 'heads': 2}
    for part in {'vit', 'teacher'} & small.keys():
        small[part].update(model_name='test_vit', model_kwargs={'depth': 1})
    with DefaultScope.overwrite_default_scope('mmengine'):
        model = MMDistributedDataParallel(MODELS.build(small).train())
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-4))
    images = [torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8) for _ in range(2)]
    for _ in range(2):
        losses = model.train_step({'inputs': images}, optimizer)
    assert {name for name in losses if name != 'loss'} == {
        f'loss_{name}' for name in small.get('loss_weights', {'pixels': 1})
    }
