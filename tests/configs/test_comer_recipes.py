"""What is published of the ViT-CoMer recipes stands in the configs."""

from typing import Any

import pytest
import torch
from leaves import CONFIGS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS

import vit_dense.segmentation  # noqa: F401 - registers what the configs name

# lr, weight decay, layer decay, drop path, deform heads, deform ratio, width of the MRFP over C
SEGMENTATION: dict[str, tuple[Any, ...]] = {
    't-deit': (1.2e-4, 0.01, 0.95, 0.1, 6, 1.0, 6.0),
    's-deit': (6e-5, 0.01, 0.95, 0.2, 6, 1.0, 1.5),
    'b-deit': (6e-5, 0.01, 0.95, 0.3, 12, 0.5, 1.0),
    'l-augreg': (2e-5, 0.05, 0.95, 0.4, 16, 0.5, 1.0),
    's-dinov2': (6e-5, 0.05, 0.7, 0.2, 6, 1.0, 1.5),
    'b-dinov2': (6e-5, 0.05, 0.6, 0.3, 12, 0.5, 1.0),
    'l-dinov2': (6e-5, 0.05, 0.65, 0.4, 16, 0.5, 1.0),
}
DETECTION: dict[str, tuple[Any, ...]] = {
    't-deit_mask-rcnn_8xb2-3x': (1e-4, 0.05, 1.0, 0.1, 6, 1.0, 0.5),
    's-deit_mask-rcnn_8xb2-3x': (1e-4, 0.05, 1.0, 0.2, 6, 1.0, 0.5),
    'b-deit_mask-rcnn_8xb2-3x': (1e-4, 0.05, 1.0, 0.3, 12, 0.5, 0.5),
    'l-augreg_mask-rcnn_8xb2-3x': (1e-4, 0.05, 0.8, 0.4, 16, 0.5, 0.5),
    's-dinov2_mask-rcnn_8xb2-1x': (1e-4, 0.05, 0.7, 0.2, 6, 1.0, 0.5),
    's-dinov2_mask-rcnn_8xb2-3x': (1e-4, 0.05, 0.7, 0.2, 6, 1.0, 0.5),
    'b-dinov2_mask-rcnn_8xb2-1x': (1e-4, 0.05, 0.6, 0.3, 12, 0.5, 0.5),
    'b-dinov2_mask-rcnn_8xb2-3x': (1e-4, 0.05, 0.6, 0.3, 12, 0.5, 0.5),
    'l-dinov2_mask-rcnn_8xb2-3x': (1e-4, 0.05, 0.65, 0.4, 16, 0.5, 0.5),
}
# Millions of parameters with UPerNet, from the release's table of results.
MILLIONS = {'t-deit': 38.7, 's-deit': 61.4, 'b-deit': 144.7}


def read(leaf: str) -> Config:
    path = CONFIGS / 'vit_comer' / f'vit-comer-{leaf}.py'
    return Config.fromfile(path, import_custom_modules=False)


def segmentation(model: str) -> Config:
    return read(f'{model}_upernet_8xb2-160k_ade20k-512x512')


def recipe_of(config: Config) -> tuple[Any, ...]:
    wrapper, backbone = config.optim_wrapper, config.model.backbone
    assert wrapper.optimizer.type == 'AdamW'
    assert backbone.type == 'ViTCoMer'
    return (
        wrapper.optimizer.lr,
        wrapper.optimizer.weight_decay,
        wrapper.paramwise_cfg.layer_decay_rate,
        backbone.vit.drop_path_rate,
        backbone.deform_num_heads,
        backbone.deform_ratio,
        backbone.mrfp_ratio,
    )


@pytest.mark.parametrize('model', SEGMENTATION)
def test_segmentation_recipe(model: str) -> None:
    config = segmentation(model)
    assert recipe_of(config) == SEGMENTATION[model]
    assert config.model.backbone.vit_feature_source == 'stages', 'what the release adds'
    assert 'window_size' not in config.model.backbone.vit, 'segmentation attends globally'
    assert config.train_cfg.max_iters == 160_000
    assert config.train_dataloader.batch_size == 2, 'on eight processes'


@pytest.mark.parametrize('recipe', DETECTION)
def test_detection_recipe(recipe: str) -> None:
    config = read(f'{recipe}_coco')
    assert recipe_of(config) == DETECTION[recipe]
    assert config.model.backbone.vit_feature_source == 'last', 'what the release adds'
    assert config.model.backbone.vit.window_size == 14
    epochs = {'1x': 12, '3x': 36}[recipe[-2:]]
    steps = {'1x': [8, 11], '3x': [27, 33]}[recipe[-2:]]
    assert config.train_cfg.max_epochs == config.param_scheduler[1].end == epochs
    assert config.param_scheduler[1].milestones == steps
    assert config.train_dataloader.dataset.pipeline[3].type == 'RandomChoice', 'many scales'


@pytest.mark.parametrize('model', MILLIONS)
def test_size_of_the_released_model(model: str) -> None:
    with DefaultScope.overwrite_default_scope('mmseg'), torch.device('meta'):
        network = MODELS.build(segmentation(model).model)
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    assert millions == pytest.approx(MILLIONS[model], abs=0.05)
