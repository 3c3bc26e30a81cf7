"""The settings of DINOv3's release in its configs, so that a slip is seen."""

from typing import Any

import pytest
import torch
from leaves import CONFIGS, read_leaf
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

import vit_dense.segmentation  # noqa: F401 - registers what the configs name

FOLDER = CONFIGS / 'dinov3'
# width, depth, the blocks of the taps
SIZES: dict[str, tuple[int, int, list[int]]] = {
    's': (384, 12, [2, 5, 8, 11]),
    'splus': (384, 12, [2, 5, 8, 11]),
    'b': (768, 12, [2, 5, 8, 11]),
    'l': (1024, 24, [4, 11, 17, 23]),
    'hplus': (1280, 32, [7, 15, 23, 31]),
}


def build(node: Any) -> torch.nn.Module:
    with DefaultScope.overwrite_default_scope('mmseg'), torch.device('meta'):
        return MODELS.build(Config({'node': node}).node)


@pytest.mark.parametrize('size', SIZES)
def test_frozen(size: str) -> None:
    name = f'vit-adapter-{size}-dinov3-frozen_upernet_8xb2-160k_ade20k-512x512.py'
    backbone = build(read_leaf(FOLDER / name).model.backbone)
    width, depth, taps = SIZES[size]
    assert (backbone.vit.embed_dim, backbone.vit.depth) == (width, depth)
    assert [stop - 1 for _, stop in backbone.stages] == taps
    assert not backbone.inject
    assert backbone.vit.final_norm, 'on every tap'
    extractor = backbone.interactions[0].extractor
    assert (extractor.attn.num_heads, extractor.attn.value_proj.out_features) == (16, width // 2)
    assert extractor.drop_path.drop_prob == 0.3


@pytest.mark.parametrize('size', ['s', 'b', 'l'])
def test_linear_probe(size: str) -> None:
    (path,) = FOLDER.glob(f'plain-vit-{size}-*.py')
    config = read_leaf(path)
    optimizer = config.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 1e-3, 1e-3)
    assert 'clip_grad' not in config.optim_wrapper
    warm_up, decay = config.param_scheduler
    assert (warm_up.end, decay.type, decay.eta_min) == (1500, 'CosineAnnealingLR', 0.0)
    assert config.train_cfg.max_iters == decay.end == 40_000
    assert config.model.test_cfg == {
        'mode': 'slide',
        'crop_size': (512, 512),
        'stride': (341, 341),
    }
    width, depth, _ = SIZES[size]
    model = build(config.model)
    assert (model.decode_head.in_channels, model.decode_head.dropout.p) == (width, 0.1)
    assert model.backbone.out_indices == (depth - 1,)
    assert model.backbone.vit.final_norm
    assert not any(p.requires_grad for p in model.backbone.parameters())
    assert model.data_preprocessor.test_cfg == {'size_divisor': model.backbone.vit.patch_size}


def test_mask2former() -> None:
    (path,) = FOLDER.glob('*_mask2former_*.py')
    config = read_leaf(path)
    assert config.model.test_cfg == {
        'mode': 'slide',
        'crop_size': (896, 896),
        'stride': (596, 596),
    }
    edges = [step.scale[1] for step in config.tta_pipeline[1].transforms[0]]
    assert edges == [int(896 * by) for by in (0.9, 0.95, 1.0, 1.05, 1.1)]
    assert len(config.tta_pipeline[1].transforms[1]) == 2, 'with flips'
    backbone, head = build(config.model.backbone), config.model.decode_head
    assert [stop - 1 for _, stop in backbone.stages] == SIZES['l'][2]
    assert not backbone.inject
    assert backbone.vit.final_norm
    assert not any(p.requires_grad for p in backbone.vit.parameters())
    assert (head.feat_channels, head.out_channels, head.num_queries) == (2048, 2048, 100)
    assert head.transformer_decoder.num_layers == 9
    for layer in (head.transformer_decoder.layer_cfg, head.pixel_decoder.encoder.layer_cfg):
        attention = layer.self_attn_cfg
        assert (attention.embed_dims, attention.num_heads) == (2048, 16)
        assert (layer.ffn_cfg.embed_dims, layer.ffn_cfg.feedforward_channels) == (2048, 4096)
    for part in (head, head.pixel_decoder):
        assert part.positional_encoding.num_feats == 1024
