"""What is published of the detection recipes stands in the configs."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from detectors import build, read
from mmcv.cnn import build_norm_layer
from mmengine.config import Config
from torch.nn import BatchNorm2d

EPOCHS = {'1x': 12, '3x': 36}
pytestmark = pytest.mark.usefixtures('in_mmdet')


# lr, weight decay, layer decay, drop path, deform heads, deform ratio, million parameters
RECIPES: dict[str, tuple[Any, ...]] = {
    't-deit_mask-rcnn_8xb2-1x': (2e-4, 0.01, 1.0, 0.1, 6, 1.0, 28),
    's-deit_mask-rcnn_8xb2-1x': (1e-4, 0.05, 1.0, 0.2, 6, 1.0, 48),
    'b-deit_mask-rcnn_8xb2-1x': (1e-4, 0.05, 1.0, 0.3, 12, 0.5, 120),
    'l-augreg_mask-rcnn_8xb2-1x': (1e-4, 0.05, 0.8, 0.4, 16, 0.5, 348),
    't-deit_mask-rcnn_8xb2-3x': (1e-4, 0.05, 1.0, 0.1, 6, 1.0, 28),
    's-deit_mask-rcnn_8xb2-3x': (1e-4, 0.05, 1.0, 0.2, 6, 1.0, 48),
    'b-deit_mask-rcnn_8xb2-3x': (1e-4, 0.05, 1.0, 0.3, 12, 0.5, 120),
    't-augreg_mask-rcnn_8xb2-3x': (1e-4, 0.05, 1.0, 0.1, 6, 1.0, 28),
    's-augreg_mask-rcnn_8xb2-3x': (1e-4, 0.05, 1.0, 0.2, 6, 1.0, 48),
    'b-augreg_mask-rcnn_8xb2-3x': (1e-4, 0.05, 1.0, 0.3, 12, 0.5, 120),
    'l-augreg_mask-rcnn_8xb2-3x': (1e-4, 0.05, 0.8, 0.4, 16, 0.5, 348),
    't-augreg_mask-rcnn_8xb2-1x': (2e-4, 0.01, 1.0, 0.1, 6, 1.0, 28),
    's-augreg_mask-rcnn_8xb2-1x': (1e-4, 0.05, 1.0, 0.2, 6, 1.0, 48),
    'b-augreg_mask-rcnn_8xb2-1x': (1e-4, 0.05, 1.0, 0.3, 12, 0.5, 120),
    's-dinov2_mask-rcnn_8xb2-1x': (1e-4, 0.05, 0.7, 0.2, 6, 1.0, 48),
    'b-dinov2_mask-rcnn_8xb2-1x': (1e-4, 0.05, 0.6, 0.3, 12, 0.5, 121),
    'l-dinov2_mask-rcnn_8xb2-1x': (1e-4, 0.05, 0.65, 0.4, 16, 0.5, 348),
    's-dinov2_mask-rcnn_8xb2-3x': (1e-4, 0.05, 0.7, 0.2, 6, 1.0, 48),
    'b-dinov2_mask-rcnn_8xb2-3x': (1e-4, 0.05, 0.6, 0.3, 12, 0.5, 121),
    'l-dinov2_mask-rcnn_8xb2-3x': (1e-4, 0.05, 0.65, 0.4, 16, 0.5, 348),
    's-deit_cascade-mask-rcnn_8xb2-3x': (1e-4, 0.05, 1.0, 0.2, 6, 1.0, 86),
    'b-deit_cascade-mask-rcnn_8xb2-3x': (1e-4, 0.05, 1.0, 0.3, 12, 0.5, 158),
    's-deit_faster-rcnn_8xb2-1x': (1e-4, 0.05, 1.0, 0.2, 6, 1.0, 45),
    's-deit_retinanet_8xb2-1x': (1e-4, 0.05, 1.0, 0.2, 6, 1.0, 37),
    's-deit_atss_8xb2-3x': (1e-4, 0.05, 1.0, 0.2, 6, 1.0, 35),
}


@pytest.mark.parametrize('recipe', RECIPES)
def test_vit_adapter_recipe(recipe: str) -> None:
    config = read(f'vit_adapter/vit-adapter-{recipe}_coco')
    wrapper, backbone = config.optim_wrapper, config.model.backbone
    model = build(config)
    assert (
        wrapper.optimizer.lr,
        wrapper.optimizer.weight_decay,
        wrapper.paramwise_cfg.layer_decay_rate,
        backbone.vit.drop_path_rate,
        backbone.deform_num_heads,
        backbone.deform_ratio,
        round(sum(parameter.numel() for parameter in model.parameters()) / 1e6),
    ) == RECIPES[recipe]
    assert wrapper.optimizer.type == 'AdamW'
    assert tuple(wrapper.optimizer.betas) == (0.9, 0.999)
    assert 'clip_grad' not in wrapper
    assert backbone.vit_feature_source == 'last', 'what the detection releases add'
    vit = model.backbone.vit
    assert vit.patch_size == 16
    assert vit.window_size == 14
    assert vit.global_blocks == tuple(range(vit.depth // 4 - 1, vit.depth, vit.depth // 4))
    assert config.auto_scale_lr == {'enable': False, 'base_batch_size': 16}
    assert config.train_dataloader.batch_size == 2, 'on eight processes'
    times = recipe[-2:]
    warm_up, decay = config.param_scheduler
    assert (warm_up.start_factor, warm_up.end) == (1e-3, 500)
    assert (decay.type, decay.gamma, decay.end) == ('MultiStepLR', 0.1, EPOCHS[times])
    assert decay.milestones == {'1x': [8, 11], '3x': [27, 33]}[times]
    assert has_many_scales(config) == (times == '3x')


def has_many_scales(config: Config) -> bool:
    (scales,) = {len(found) for found in resizes(config.train_pipeline)} or {1}
    assert scales in (1, 11)
    return scales == 11


def resizes(pipeline: list) -> Iterator[list[tuple[int, int]]]:
    """The scales of the last resize of each branch of the 3x augmentation."""
    for transform in pipeline:
        if transform.type == 'RandomChoice':
            for branch in transform.transforms:
                yield branch[-1].scales


@pytest.mark.parametrize('head', ['mask-rcnn', 'cascade-mask-rcnn'])
@pytest.mark.parametrize(('size', 'drop_path', 'decay'), [('b', 0.1, 0.7), ('l', 0.4, 0.8)])
def test_vitdet_recipe(head: str, size: str, drop_path: float, decay: float) -> None:
    config = read(f'vitdet/vitdet-{size}-mae_{head}_8xb8-lsj-100e_coco')
    wrapper, model = config.optim_wrapper, build(config)
    assert wrapper.optimizer == {
        'type': 'AdamW',
        'lr': 1e-4,
        'betas': (0.9, 0.999),
        'weight_decay': 0.1,
    }
    assert wrapper.paramwise_cfg.layer_decay_rate == decay
    vit = model.backbone.vit
    assert (vit.drop_path_rate, vit.window_size) == (drop_path, 14)
    assert vit.global_blocks == tuple(range(vit.depth // 4 - 1, vit.depth, vit.depth // 4))
    warm_up, steps = config.param_scheduler
    assert warm_up.end == 250
    assert [step / steps.end for step in steps.milestones] == pytest.approx(
        [0.889, 0.963], abs=1e-3
    )
    coco_images = 118_000
    assert steps.end * 64 == 100 * coco_images
    assert config.auto_scale_lr == {'enable': False, 'base_batch_size': 64}
    assert config.train_dataloader.batch_size == 8, 'on eight processes'
    assert len(model.rpn_head.rpn_conv) == 2
    heads = model.roi_head.bbox_head
    for box_head in heads if head == 'cascade-mask-rcnn' else [heads]:
        assert (len(box_head.shared_convs), len(box_head.shared_fcs)) == (4, 1)
    # Layer norm alone, which does not ask how many images a process has.
    assert not any(isinstance(module, BatchNorm2d) for module in model.modules())
    scale = next(step for step in config.train_pipeline if step.type == 'RandomResize')
    assert (tuple(scale.scale), tuple(scale.ratio_range)) == ((1024, 1024), (0.1, 2.0))
    assert config.model.data_preprocessor.pad_size_divisor == 1024


def test_vitdet_heads_normalise_the_channels_of_each_cell() -> None:
    config = read('vitdet/vitdet-b-mae_mask-rcnn_8xb8-lsj-100e_coco')
    for head in (config.model.roi_head.bbox_head, config.model.roi_head.mask_head):
        _, norm = build_norm_layer(head.norm_cfg, 8)
        x = torch.randn(2, 8, 3, 4)
        spread = x.std(1, correction=0, keepdim=True)
        assert torch.allclose(norm(x), (x - x.mean(1, keepdim=True)) / spread, atol=1e-4)


def test_dino_recipe() -> None:
    config = read('vit_adapter/vit-adapter-s-deit_dino-4scale_8xb2-12e_coco')
    wrapper = config.optim_wrapper
    assert (wrapper.optimizer.lr, wrapper.optimizer.weight_decay) == (1e-4, 1e-4)
    assert wrapper.clip_grad == {'max_norm': 0.1, 'norm_type': 2}
    assert wrapper.paramwise_cfg == {
        'layer_decay_rate': 1.0,
        'custom_keys': {'backbone.vit.': {'lr_mult': 0.1}},
    }
    (steps,) = config.param_scheduler
    assert (steps.milestones, steps.end) == ([11], 12)
    assert config.model.num_queries == 900
    assert config.model.neck.in_channels == [384] * 3
    assert not config.train_dataloader.dataset.filter_cfg.filter_empty_gt
    vit_key = next(iter(wrapper.paramwise_cfg.custom_keys))
    names = [name for name, _ in build(config).named_parameters()]
    assert any(vit_key in name for name in names)
    assert any(name.startswith('backbone.') and vit_key not in name for name in names)


def test_cascade_recipe() -> None:
    model = build(read('vit_adapter/vit-adapter-b-deit_cascade-mask-rcnn_8xb2-3x_coco'))
    heads = model.roi_head.bbox_head
    assert [head.bbox_coder.stds[0] for head in heads] == [0.1, 0.05, 0.033]
    assert all(head.reg_decoded_bbox and len(head.shared_convs) == 4 for head in heads)
    assert [one.pos_iou_thr for one in model.roi_head.bbox_assigner] == [0.5, 0.6, 0.7]
    # BN as the adapter has it: `sync_bn` of the runtime makes both SyncBN
    assert any(isinstance(module, BatchNorm2d) for module in heads.modules())
    assert read('vit_maskrcnn_coco').sync_bn == 'torch'
