"""The recipes of linear probes, Mask2Former and fine-tuning, so that a slip is seen."""

from typing import Any

import pytest
import torch
from leaves import CONFIGS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS

import vit_dense.segmentation  # noqa: F401 - registers what the configs name


def read(name: str) -> Config:
    return Config.fromfile(CONFIGS / f'{name}.py', import_custom_modules=False)


def build(config: Config) -> torch.nn.Module:
    with DefaultScope.overwrite_default_scope('mmseg'), torch.device('meta'):
        return MODELS.build(config.model)


@pytest.mark.parametrize(('name', 'maps'), [('linear_8xb2-40k', 1), ('linear-ms_8xb2-40k', 4)])
def test_linear_probe(name: str, maps: int) -> None:
    (path,) = (CONFIGS / 'linear').glob(f'*_{name}_*.py')
    config = Config.fromfile(path, import_custom_modules=False)
    optimizer = config.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 1e-3, 1e-4)
    assert config.train_cfg.max_iters == 40_000
    assert config.param_scheduler[0].end == 1500
    model = build(config)
    trained = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
    width = 768 * maps
    assert all(name.startswith('decode_head.') for name in trained)
    assert sum(trained.values()) == 2 * width + (width + 1) * 150, 'a norm and a layer'
    assert len(model.backbone.out_indices) == maps
    assert model.backbone.vit.final_norm
    patch = model.backbone.vit.patch_size
    assert patch == 14
    assert all(edge % patch == 0 for edge in config.crop_size)
    assert tuple(config.model.test_cfg.crop_size) == tuple(config.crop_size)


def test_mask2former_on_beit() -> None:
    config = read('mask2former/vit-adapter-l-beit_mask2former_8xb2-160k_ade20k-640x640')
    optimizer = config.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.weight_decay) == (2e-5, 0.05)
    assert config.optim_wrapper.paramwise_cfg.layer_decay_rate == 0.9
    assert config.model.backbone.vit.drop_path_rate == 0.3
    head = build(config).decode_head
    assert head.num_queries == 100
    assert len(head.transformer_decoder.layers) == 9
    assert len(head.pixel_decoder.encoder.layers) == 6
    widths = {layer.embed_dims for layer in head.transformer_decoder.layers}
    widths |= {layer.embed_dims for layer in head.pixel_decoder.encoder.layers}
    assert widths == {1024}
    heads = {layer.self_attn.num_heads for layer in head.pixel_decoder.encoder.layers}
    heads |= {layer.cross_attn.num_heads for layer in head.transformer_decoder.layers}
    assert heads == {32}


@pytest.mark.parametrize('edge', [448, 518, 640, 644, 896])
def test_crops_differ_in_size_alone(edge: int) -> None:
    plain = read('_base_/datasets/ade20k')
    for path in CONFIGS.rglob(f'*_ade20k-{edge}x{edge}.py'):
        config = Config.fromfile(path, import_custom_modules=False)
        assert config.crop_size == (edge, edge)
        for name in ('train_pipeline', 'test_pipeline'):
            kinds = [step.type for step in config[name]]
            if path.parent.name != 'released':  # which rounds the size of test images
                assert kinds == [step.type for step in plain[name]]
        resize, crop = config.train_pipeline[2:4]
        assert min(resize.scale) == edge
        assert crop.crop_size == config.crop_size
        assert config.test_pipeline[1].scale == resize.scale
        for split, pipeline in (('train', 'train'), ('val', 'test'), ('test', 'test')):
            steps = config[f'{split}_dataloader'].dataset.pipeline
            assert steps == config[f'{pipeline}_pipeline']


# settings that a leaf changes, by dotted name
CHANGES: dict[str, dict[str, Any]] = {
    'vit-adapter-b-augreg-ema_upernet_8xb2-cosine-160k': {
        'optim_wrapper.clip_grad.max_norm': 1.0,
        'param_scheduler.1.type': 'CosineAnnealingLR',
        'custom_hooks.0.type': 'EMAHook',
        'custom_hooks.0.momentum': 2e-4,
    },
    'vit-adapter-b-augreg_upernet_8xb2-plateau-160k': {
        'param_scheduler.1.type': 'ReduceOnPlateauLR',
        'param_scheduler.1.patience': 2,
        'custom_hooks.0.type': 'EarlyStoppingHook',
        'custom_hooks.0.patience': 8,
        'train_cfg.val_interval': 4000,
    },
    'vit-adapter-b-dinov2-freeze6_upernet_8xb2-160k': {
        'model.backbone.vit.frozen_stages': 6,
        'optim_wrapper.paramwise_cfg.layer_decay_rate': 0.9,
        'optim_wrapper.optimizer.lr': 1.2e-4,
    },
    'vit-adapter-b-dinov2-lora_upernet_8xb2-160k': {
        'model.backbone.vit.type': 'LoRATimmViT',
        'model.backbone.vit.rank': 8,
        'model.backbone.vit.frozen_stages': 0,
        'optim_wrapper.optimizer.lr': 1.2e-4,
    },
}


@pytest.mark.parametrize('name', CHANGES)
def test_fine_tuning(name: str) -> None:
    (path,) = (CONFIGS / 'fine_tuning').glob(f'{name}_*.py')
    config = Config.fromfile(path, import_custom_modules=False)
    for key, expected in CHANGES[name].items():
        value: Any = config
        for part in key.split('.'):
            value = value[int(part)] if part.isdigit() else value[part]
        assert value == expected, key


def test_lora_trains_two_percent_of_the_vit() -> None:
    pytest.importorskip('peft', reason='the extra [peft] is not installed')
    (path,) = (CONFIGS / 'fine_tuning').glob('*-lora_*.py')
    vit = build(Config.fromfile(path)).backbone.vit
    trained = sum(p.numel() for p in vit.parameters() if p.requires_grad)
    layers = [(768, 2304), (768, 768), (768, 3072), (3072, 768)]
    assert trained == 12 * sum(8 * (i + o) for i, o in layers)
    assert trained / sum(p.numel() for p in vit.parameters()) < 0.02


def test_mask2former_for_instances() -> None:
    config = read('mask2former/vit-adapter-s-deit_mask2former_8xb2-lsj-50e_coco')
    optimizer = config.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.weight_decay) == (1e-4, 0.05)
    assert config.optim_wrapper.clip_grad.max_norm == 0.01
    assert config.optim_wrapper.paramwise_cfg.custom_keys['backbone.vit.'] == {'lr_mult': 0.1}
    assert config.train_dataloader.batch_size * 8 == config.auto_scale_lr.base_batch_size == 16
    (steps,) = config.param_scheduler
    assert config.train_cfg.max_iters == steps.end == 50 * 118_000 // 16
    shares = [round(step / steps.end, 3) for step in steps.milestones]
    assert shares == [0.889, 0.963]
