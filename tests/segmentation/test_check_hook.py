"""Model against data against metric: every contradiction is told before the first iteration."""

from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DATASETS
from mmseg.evaluation import IoUMetric
from mmseg.models import FCNHead, Mask2FormerHead, UPerHead, VisionTransformer
from mmseg.registry import MODELS
from torch import nn

from vit_dense.backbones import PlainViT
from vit_dense.multitask.model import SharedBackbone
from vit_dense.segmentation import SegCheckHook
from vit_dense.segmentation.check_hook import check_whole_patches
from vit_dense.segmentation.eomt import build_eomt_head

Make = Callable[..., dict[str, Any]]
CHANNELS = [8, 16, 24, 32]


class Segmentor(nn.Module):
    """The parts of a segmentor that the hook looks at."""

    def __init__(self, decode_head: nn.Module, auxiliary_head: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone = nn.Identity()
        self.backbone.out_channels = CHANNELS
        self.decode_head = decode_head
        if auxiliary_head is not None:
            self.auxiliary_head = auxiliary_head


def uper(in_channels: list[int], **changes: Any) -> UPerHead:
    options = dict(in_index=[0, 1, 2, 3], channels=4, num_classes=3, **changes)
    return UPerHead(in_channels=in_channels, **options)


def fcn(in_channels: int, in_index: int = 2, **changes: Any) -> FCNHead:
    options = {'channels': 4, 'num_convs': 1, 'num_classes': 3}
    return FCNHead(in_channels=in_channels, in_index=in_index, **{**options, **changes})


def mask2former(in_channels: list[int], weights: int = 4) -> Mask2FormerHead:
    attention = {'embed_dims': 8, 'num_heads': 2, 'batch_first': True}
    ffn = {'embed_dims': 8, 'feedforward_channels': 8}
    encoder = {'self_attn_cfg': {**attention, 'num_levels': 3}, 'ffn_cfg': ffn}
    decoder = {'self_attn_cfg': attention, 'cross_attn_cfg': attention, 'ffn_cfg': ffn}
    options = {
        'num_classes': 3,
        'in_channels': in_channels,
        'strides': [4, 8, 16, 32],
        'feat_channels': 8,
        'out_channels': 8,
        'pixel_decoder': {
            'type': 'mmdet.MSDeformAttnPixelDecoder',
            'num_outs': 3,
            'norm_cfg': {'type': 'GN', 'num_groups': 2},
            'encoder': {'num_layers': 1, 'layer_cfg': encoder},
            'positional_encoding': {'num_feats': 4},
        },
        'transformer_decoder': {'num_layers': 1, 'layer_cfg': decoder, 'return_intermediate': True},
        'positional_encoding': {'num_feats': 4},
        'loss_cls': {'type': 'mmdet.CrossEntropyLoss', 'class_weight': [1.0] * weights},
        'loss_mask': {'type': 'mmdet.CrossEntropyLoss', 'use_sigmoid': True},
        'loss_dice': {'type': 'mmdet.DiceLoss'},
    }
    return Mask2FormerHead(**ConfigDict(options))


def runner(model: nn.Module, dataset: Any = None, metric: Any = None) -> SimpleNamespace:
    loader = SimpleNamespace(dataset=dataset)
    return SimpleNamespace(
        model=model,
        iter=0,
        val_loop=object(),
        train_dataloader=loader,
        val_dataloader=loader,
        test_dataloader=loader,
        val_evaluator=SimpleNamespace(metrics=[metric or IoUMetric()]),
        test_evaluator=SimpleNamespace(metrics=[metric or IoUMetric()]),
    )


def build(config: dict[str, Any]) -> Any:
    with DATASETS.switch_scope_and_registry('mmseg') as registry:
        return registry.build(config)


def test_fitting_channels_pass() -> None:
    model = Segmentor(uper(CHANNELS), fcn(24))
    SegCheckHook().before_run(runner(model))
    SegCheckHook().before_run(runner(SimpleNamespace(module=model)))
    concat = fcn([8, 32], [0, 3], input_transform='resize_concat')
    SegCheckHook().before_run(runner(Segmentor(concat)))


def test_channels_of_a_multi_level_head() -> None:
    with pytest.raises(ValueError, match=r'decode_head\.in_channels=\[8, 8, 8, 8\]') as error:
        SegCheckHook().before_run(runner(Segmentor(uper([8] * 4))))
    assert 'Set decode_head.in_channels=[8, 16, 24, 32]' in str(error.value)


def test_channels_of_the_auxiliary_heads() -> None:
    with pytest.raises(ValueError, match=r'Set auxiliary_head\.in_channels=24'):
        SegCheckHook().before_run(runner(Segmentor(uper(CHANNELS), fcn(768))))
    several = nn.ModuleList([fcn(24), fcn(9, 1)])
    with pytest.raises(ValueError, match=r'Set auxiliary_head\[1\]\.in_channels=16'):
        SegCheckHook().before_run(runner(Segmentor(uper(CHANNELS), several)))


@pytest.mark.parametrize(
    ('is_paired', 'kind', 'readout', 'prefix', 'message'),
    [
        (True, 'DPTHead', 'project', 1, None),
        (True, 'DPTHead', 'ignore', 0, None),
        (True, 'DPTHead', 'add', 0, r"readout_type='add': 'x' has no cls token; .*'ignore'"),
        (False, 'DPTHead', 'ignore', 1, r"type='DPTHead' with .*output_cls_token=False"),
        (True, 'UPerHead', None, 1, r"type='UPerHead' with .*output_cls_token=True"),
    ],
)
def test_cls_tokens(
    is_paired: bool, kind: str, readout: str | None, prefix: int, message: str | None
) -> None:
    config = {'type': kind, 'in_channels': [8] * 4, 'channels': 4, 'num_classes': 3}
    config['in_index'] = [0, 1, 2, 3]
    if readout:
        config.update(readout_type=readout, post_process_channels=[4] * 4)
    if kind == 'DPTHead':
        config.update(embed_dims=8, input_transform='multiple_select')
    model = Segmentor(MODELS.build(config))
    model.backbone.out_channels = [8] * 4
    model.backbone.output_cls_token = is_paired
    model.backbone.vit = SimpleNamespace(num_prefix_tokens=prefix, model_name='x')
    with pytest.raises(ValueError, match=message) if message else nullcontext():
        SegCheckHook().before_run(runner(model))


SLIDING = {'mode': 'slide', 'stride': (8, 8)}


@pytest.mark.parametrize(
    ('split', 'preprocessor', 'windows', 'message'),
    [
        ('training', {'size': (64, 64)}, {}, None),
        ('training', {'size': (64, 60)}, {}, r'preprocessor\.size=.*crop_size=\(64, 64\)'),
        ('training', {'size': None, 'size_divisor': 14}, {}, r'size_divisor=14 .*divisor=16\)'),
        ('training', {}, {}, None),
        ('test', {'test_cfg': {'size_divisor': 32}}, {}, None),
        ('test', {'test_cfg': {'size_divisor': 14}}, {}, r'divisor=14 .*\(size_divisor=16\)'),
        ('test', {'test_cfg': {'size': (64, 64)}}, {}, r'dict\(size=None, size_divisor=16\)'),
        ('test', {'size': (64, 64), 'test_cfg': None}, {}, r'test_cfg\.size_divisor=None '),
        ('test', {'test_cfg': {'size_divisor': 16}}, SLIDING | {'crop_size': (64, 64)}, None),
        ('test', {'test_cfg': {}}, SLIDING | {'crop_size': (64, 64)}, 'size_divisor=None '),
        (
            'test',
            {'test_cfg': {'size_divisor': 16}},
            SLIDING | {'crop_size': (64, 60)},
            r'model\.test_cfg\.crop_size=\(64, 60\)',
        ),
    ],
)
def test_images_of_plain_vits_are_whole_patches(
    split: str, preprocessor: dict[str, Any], windows: dict[str, Any], message: str | None
) -> None:
    model = Segmentor(fcn(64, 0))
    vit = PlainViT({'type': 'TimmViT', 'model_name': 'test_vit'})
    model.test_cfg = windows
    model.data_preprocessor = SimpleNamespace(**preprocessor)
    several = SharedBackbone(SimpleNamespace(__self__=SimpleNamespace(backbone=vit)))
    for model.backbone in (vit, several):
        with pytest.raises(ValueError, match=message) if message else nullcontext():
            check_whole_patches(model, split)
    model.backbone = VisionTransformer(embed_dims=8, num_heads=1, num_layers=1)  # mmseg's own
    check_whole_patches(model, split)


@pytest.mark.parametrize('split', ['training', 'validation'])
def test_the_sizes_of_a_split_are_checked(split: str, dataset_config: Make) -> None:
    model = Segmentor(fcn(64, 0))
    model.backbone = PlainViT({'type': 'TimmViT', 'model_name': 'test_vit'})
    model.data_preprocessor = SimpleNamespace(size=(60, 60), test_cfg=None)
    with pytest.raises(ValueError, match='multiple of the patches of 16 px'):
        SegCheckHook().check_data(runner(model), build(dataset_config()), split)


def test_map_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match=r'auxiliary_head\.in_index=4.*makes 4'):
        SegCheckHook().before_run(runner(Segmentor(uper(CHANNELS), fcn(24, 4))))


def test_mask2former_fits_in_channels_and_weighs_its_classes(dataset_config: Make) -> None:
    SegCheckHook().before_run(runner(Segmentor(mask2former(CHANNELS))))
    with pytest.raises(ValueError, match=r'set decode_head.in_channels=\[8, 16, 24, 32\]'):
        SegCheckHook().before_run(runner(Segmentor(mask2former([8, 16, 24, 24]))))
    with pytest.raises(ValueError, match=r'has 3 values for num_classes=3.*\* 3 \+ \[0.1\]'):
        SegCheckHook().before_run(runner(Segmentor(mask2former(CHANNELS, weights=3))))
    head = mask2former(CHANNELS)
    head.num_classes = 7
    with pytest.raises(ValueError, match=r'decode_head\.num_classes=7'):
        SegCheckHook().before_train(runner(Segmentor(head), build(dataset_config())))


def test_eomt_fits_the_width_of_the_queries() -> None:
    model = Segmentor(build_eomt_head(in_channels=8, num_classes=3))
    model.backbone.out_channels = (8,)
    SegCheckHook().before_run(runner(model))
    model.backbone.out_channels = (16,)
    with pytest.raises(ValueError, match=r'set decode_head.in_channels=16, its out_channels'):
        SegCheckHook().before_run(runner(model))


def test_queries_need_two_classes() -> None:
    model = Segmentor(build_eomt_head(in_channels=8, num_classes=1))
    model.backbone.out_channels = (8,)
    with pytest.raises(ValueError, match=r'decode_head\.num_classes=1.*num_classes=2'):
        SegCheckHook().before_run(runner(model))


def test_a_neck_or_a_foreign_backbone_is_left_alone() -> None:
    model = Segmentor(uper([8] * 4))
    model.neck = nn.Identity()
    SegCheckHook().before_run(runner(model))
    other = Segmentor(uper([8] * 4))
    other.backbone = nn.Identity()
    SegCheckHook().before_run(runner(other))


@pytest.mark.parametrize('stage', ['before_train', 'before_val', 'before_test'])
def test_number_of_classes(dataset_config: Make, stage: str) -> None:
    hook, dataset = SegCheckHook(), build(dataset_config())
    getattr(hook, stage)(runner(Segmentor(uper(CHANNELS), fcn(24)), dataset))
    model = Segmentor(uper(CHANNELS), fcn(24, num_classes=150))
    with pytest.raises(
        ValueError, match=r'auxiliary_head\.num_classes=150.*has 3 classes'
    ) as error:
        getattr(hook, stage)(runner(model, dataset))
    assert 'road, sky, car' in str(error.value)
    assert 'num_classes=3' in str(error.value)


def test_ignore_index_of_head_and_metric(dataset_config: Make) -> None:
    dataset = build(dataset_config())
    with pytest.raises(ValueError, match=r'decode_head\.ignore_index=0.*ignore_index=255'):
        SegCheckHook().before_train(runner(Segmentor(uper(CHANNELS, ignore_index=0)), dataset))
    metric = IoUMetric(ignore_index=254)
    with pytest.raises(ValueError, match='IoUMetric has ignore_index=254'):
        SegCheckHook().before_train(runner(Segmentor(uper(CHANNELS)), dataset, metric))


def test_ignore_index_that_loading_does_not_write(dataset_config: Make) -> None:
    config = dataset_config(ignore_index=7, reduce_zero_label=True, scan_masks=0)
    with pytest.raises(ValueError, match=r'ignore_index=7 together with reduce_zero_label=True'):
        SegCheckHook().before_train(runner(Segmentor(uper(CHANNELS)), build(config)))


def test_data_sets_of_mmseg_and_wrappers_are_checked_too(
    dataset_config: Make, data_root: Any
) -> None:
    inner = dataset_config(type='BaseSegDataset')
    wrapped = build(
        {
            'type': 'ConcatDataset',
            'datasets': [{'type': 'RepeatDataset', 'dataset': inner, 'times': 2}],
        }
    )
    model = Segmentor(uper(CHANNELS))
    SegCheckHook().before_train(runner(model, wrapped))
    mask = str(data_root / 'annotations/training/0.png')
    cv2.imwrite(mask, np.full((40, 48), 9, np.uint8))
    with pytest.raises(ValueError, match='the value 9'):
        SegCheckHook().before_train(runner(model, wrapped))


def test_data_sets_of_mmseg_read_eight_bits(dataset_config: Make) -> None:
    many = {'classes': tuple(f'c{index}' for index in range(300))}
    dataset = build(dataset_config(type='BaseSegDataset', metainfo=many))
    with pytest.raises(ValueError, match=r'300 classes.*CheckedSegDataset'):
        SegCheckHook().before_train(runner(Segmentor(uper(CHANNELS)), dataset))


@pytest.mark.parametrize('mode', ['train', 'val', 'test'])
def test_channels_of_images(mode: str) -> None:
    model = Segmentor(uper(CHANNELS))
    model.backbone.in_chans = 4
    check = getattr(SegCheckHook(), f'before_{mode}_iter')
    owner = SimpleNamespace(model=model)
    check(owner, 0, {'inputs': [torch.zeros(4, 32, 32)]})
    for inputs in ([torch.zeros(3, 32, 32)], [[torch.zeros(3, 32, 32)]]):
        with pytest.raises(ValueError, match=r"3 channels.*takes 4.*color_type='unchanged'"):
            check(owner, 0, {'inputs': inputs})


def test_bad_files_are_errors_in_evaluation(dataset_config: Make) -> None:
    """Validation data sets often have no test_mode: the hook knows what they are for."""
    model = Segmentor(uper(CHANNELS))
    dataset = build(dataset_config(bad_files='skip'))
    training = runner(model, dataset)
    training.val_loop = None
    SegCheckHook().before_train(training)
    assert dataset.bad_files == 'skip'
    SegCheckHook().before_test(runner(model, dataset))
    assert dataset.bad_files == 'error'
