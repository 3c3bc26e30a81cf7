"""Which head trains on which backbone: each pair, cut down, takes steps and predicts."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from leaves import CONFIGS
from mmengine.config import Config, ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

import vit_dense.segmentation  # noqa: F401 - registers what the configs name

CLASSES = 5
VOID = 255
VIT = {'type': 'TimmViT', 'model_name': 'test_vit', 'drop_path_rate': 0.1}
PYRAMIDS = {
    'SimpleFeaturePyramid': {'out_channels': 32},
    'ViTAdapter': {'deform_num_heads': 4, 'conv_inplane': 16},
    'ViTCoMer': {'deform_num_heads': 4, 'conv_inplane': 16},
    'TimmPyramid': {'model_name': 'test_convnext', 'norm': 'LN'},
}
PLAIN = {'PlainViT': {'num_maps': 4}}
BACKBONES = PYRAMIDS | PLAIN
HEADS = {
    'UPerNet': '_base_/models/upernet_vit_adapter',
    'FCN': 'fcn/vit-adapter-b-dinov2-frozen_fcn_8xb2-160k_ade20k-518x518',
    'Linear': 'linear/plain-vit-b-dinov2_linear-ms_8xb2-40k_ade20k-644x644',
    'Mask2Former': '_base_/models/mask2former_vit_adapter',
    'SegFormer': 'segformer_head/vit-adapter-b-dinov2-frozen_segformer_8xb2-160k_ade20k-518x518',
    'DPT': 'dpt/plain-vit-b-dinov2-frozen_dpt_8xb2-40k_ade20k-518x518',
}
PAIRS = [
    (head, backbone) for head in HEADS if head not in ('SegFormer', 'DPT') for backbone in PYRAMIDS
]
PAIRS += [
    pytest.param(
        'SegFormer', backbone, marks=[pytest.mark.slow] * (backbone != 'SimpleFeaturePyramid')
    )
    for backbone in PYRAMIDS
]
PAIRS += [(head, backbone) for head in ('FCN', 'Linear', 'SegFormer', 'DPT') for backbone in PLAIN]
# On one map alone. A pyramid's other maps would get no gradient, which DDP must be told.
SINGLE = [('Linear', 'PlainViT'), ('FCN', 'PlainViT')]


@pytest.fixture(autouse=True)
def in_mmseg() -> Iterator[None]:
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def small_head(head: str, channels: list[int]) -> ConfigDict:
    """The config's head, thinned, for maps of these channels."""
    config = Config.fromfile(CONFIGS / f'{HEADS[head]}.py').model.decode_head
    config.update(in_channels=channels, num_classes=CLASSES)
    if 'channels' in config:
        config.channels = 32
    if head == 'DPT':
        config.update(embed_dims=channels[0], post_process_channels=[8, 16, 32, 64])
    if head == 'Mask2Former':
        config.update(feat_channels=32, out_channels=32, num_queries=8)
        config.loss_cls.class_weight = [1.0] * CLASSES + [0.1]
        config.train_cfg.num_points = 128
        for part in (config.pixel_decoder, config):
            part.positional_encoding.num_feats = 16
        config.pixel_decoder.norm_cfg.num_groups = 4
        for part in (config.pixel_decoder.encoder, config.transformer_decoder):
            part.num_layers = 2
            for name, layer in part.layer_cfg.items():
                layer.embed_dims = 32
                layer.update(
                    {'feedforward_channels': 32} if name == 'ffn_cfg' else {'num_heads': 4}
                )
    return config


def build(head: str, backbone: str, *, single: bool = False) -> torch.nn.Module:
    options = {'num_maps': 1} if single and backbone == 'PlainViT' else BACKBONES[backbone]
    body = {'type': backbone, **options}
    if backbone != 'TimmPyramid':
        body['vit'] = VIT
    if head == 'DPT':
        body['output_cls_token'] = True
    channels = list(MODELS.build(body).out_channels)
    decode_head = small_head(head, channels)
    if single:
        decode_head.update(in_channels=channels[-1], in_index=len(channels) - 1)
        decode_head.pop('input_transform', None)
    preprocessor = {'type': 'SegDataPreProcessor', 'mean': [127.5] * 3, 'std': [127.5] * 3}
    config = ConfigDict(
        {
            'type': 'EncoderDecoder',
            'data_preprocessor': preprocessor | {'size': (64, 64), 'seg_pad_val': VOID},
            'backbone': body,
            'decode_head': decode_head,
            'test_cfg': {'mode': 'slide', 'crop_size': (64, 64), 'stride': (48, 48)},
        }
    )
    model = MODELS.build(config)
    model.init_weights()
    return model


def batch(size: tuple[int, int] = (64, 64)) -> dict[str, Any]:
    """Two images whose left half is dark and of class 0, the right half bright and of class 3."""
    height, width = size
    inputs, samples = [], []
    for number in range(2):
        image = torch.full((3, height, width), 40, dtype=torch.uint8)
        label = torch.zeros(1, height, width, dtype=torch.long)
        image[:, :, width // 2 :] = 200 + number
        label[:, :, width // 2 :] = 3
        label[:, :4] = VOID
        sample = SegDataSample(metainfo={'img_shape': size, 'ori_shape': size})
        sample.gt_sem_seg = PixelData(data=label)
        inputs.append(image)
        samples.append(sample)
    return {'inputs': inputs, 'data_samples': samples}


def check_training(model: torch.nn.Module, steps: int = 12) -> None:
    wrapper = {
        'type': 'OptimWrapper',
        'constructor': 'LayerDecayOptimWrapperConstructor',
        'optimizer': {'type': 'AdamW', 'lr': 1e-3, 'weight_decay': 0.01},
        'paramwise_cfg': {'layer_decay_rate': 0.95},
    }
    optimizer = build_optim_wrapper(model, wrapper)
    model.train()
    losses = []
    for step in range(steps):
        data = model.data_preprocessor(batch(), training=True)
        loss, _ = model.parse_losses(model(**data, mode='loss'))
        optimizer.update_params(loss)
        losses.append(loss.item())
        if step == 0:
            # Adam moves whatever has a gradient; what has none would stop DDP.
            moved = optimizer.optimizer.state
            trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
            assert [name for name, p in trained.items() if p not in moved] == []
    assert all(torch.isfinite(torch.tensor(losses)))
    assert min(losses[-2:]) < 0.9 * losses[0], losses


def check_prediction(model: torch.nn.Module) -> None:
    model.eval()
    size = (100, 150)
    found = model.test_step(batch(size))
    for sample in found:
        assert sample.seg_logits.data.shape == (CLASSES, *size)
        assert torch.isfinite(sample.seg_logits.data).all()
        label = sample.pred_sem_seg.data
        assert label.shape == (1, *size)
        assert ((label >= 0) & (label < CLASSES)).all()


@pytest.mark.parametrize(('head', 'backbone'), PAIRS)
def test_pair_trains_and_predicts(head: str, backbone: str) -> None:
    model = build(head, backbone)
    check_training(model)
    check_prediction(model)


@pytest.mark.cuda
@pytest.mark.parametrize('head', HEADS)
def test_heads_on_cuda(head: str) -> None:
    model = build(head, 'PlainViT' if head == 'DPT' else 'ViTAdapter').cuda()
    check_training(model)
    check_prediction(model)


@pytest.mark.parametrize(('head', 'backbone'), SINGLE)
def test_one_map_is_enough(head: str, backbone: str) -> None:
    model = build(head, backbone, single=True)
    check_training(model)
    check_prediction(model)
