"""The leaves on hierarchical models: what is published of them, and one training step of each."""

from typing import Any

import mmdet.registry
import mmseg.registry
import pytest
import torch
from leaves import CONFIGS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from test_detectors_run import batch as images_with_boxes
from test_heads_run import batch as images_with_labels

import vit_dense.detection
import vit_dense.segmentation  # noqa: F401 - registers what the configs name

UPERNET = 'upernet_8xb2-160k_ade20k-512x512'
MASK_RCNN = 'mask-rcnn_8xb2-3x_coco'
# lr, weight decay, layer decay, drop path, million parameters of the backbone
RECIPES: dict[str, tuple[Any, ...]] = {
    f'swin-t_{UPERNET}': (6e-5, 0.01, 1.0, 0.3, 28),
    f'swin-t_{MASK_RCNN}': (1e-4, 0.05, 1.0, 0.2, 28),
    f'mobilevitv2-100_{UPERNET}': (6e-5, 0.01, 1.0, 0.0, 4),
    f'mobilevitv2-100_{MASK_RCNN}': (1e-4, 0.05, 1.0, 0.0, 4),
}
SMALL = {
    'swin-t': {
        'model_name': 'swin_tiny_patch4_window7_224',
        'model_kwargs': {'embed_dim': 24, 'depths': (1, 1, 1, 1), 'num_heads': (1, 2, 3, 4)},
    },
    'mobilevitv2-100': {'model_name': 'mobilevitv2_050'},
}
each_leaf = pytest.mark.parametrize('leaf', RECIPES)


def read(leaf: str) -> Config:
    return Config.fromfile(CONFIGS / 'timm_pyramid' / f'{leaf}.py', import_custom_modules=False)


@each_leaf
def test_recipe(leaf: str) -> None:
    config = read(leaf)
    wrapper, backbone = config.optim_wrapper, config.model.backbone
    with torch.device('meta'):
        built = mmseg.registry.MODELS.build(backbone)
    assert (
        wrapper.optimizer.lr,
        wrapper.optimizer.weight_decay,
        wrapper.paramwise_cfg.layer_decay_rate,
        backbone.drop_path_rate,
        round(sum(p.numel() for p in built.parameters()) / 1e6),
    ) == RECIPES[leaf]
    swin = leaf.startswith('swin')
    assert len(built.norms) == (4 if swin else 0), "Swin's maps are normalised, each by itself"
    assert built.norm_eval == (leaf == f'mobilevitv2-100_{MASK_RCNN}')


@each_leaf
def test_a_small_one_takes_a_step(leaf: str) -> None:
    config = read(leaf)
    detects = leaf.endswith('coco')
    config.model.backbone.update(pretrained=False, **SMALL[leaf.split('_')[0]])
    models = (mmdet if detects else mmseg).registry.MODELS
    with DefaultScope.overwrite_default_scope('mmdet' if detects else 'mmseg'):
        channels = list(models.build(config.model.backbone).out_channels)
        if detects:
            config.model.neck.in_channels = channels
            config.model.train_cfg.rcnn.sampler.num = 16
            config.model.train_cfg.rpn_proposal.max_per_img = 16
        else:
            config.model.data_preprocessor.size = (96, 96)
            config.model.decode_head.update(in_channels=channels, channels=32)
            config.model.auxiliary_head.update(in_channels=channels[2], channels=32)
        model = models.build(config.model)
        model.init_weights()
        optimizer = build_optim_wrapper(model, config.optim_wrapper)
        data = images_with_boxes(with_masks=True) if detects else images_with_labels()
        data = model.train().data_preprocessor(data, training=True)
        loss, _ = model.parse_losses(model(**data, mode='loss'))
    before = {name: p.detach().clone() for name, p in model.backbone.named_parameters()}
    loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    optimizer.step()
    moved = [not torch.equal(p, before[n]) for n, p in model.backbone.named_parameters()]
    assert loss.isfinite()
    assert sum(moved) > 0.9 * len(moved)
