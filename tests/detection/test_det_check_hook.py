"""Detector against data against metric: contradictions are told before the first iteration."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from coco_files import sound, write
from mmcv.ops import MultiScaleDeformableAttention
from mmdet.evaluation import CocoMetric
from mmdet.models import FPN, ChannelMapper, RPNHead, Shared2FCBBoxHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import nn

from vit_dense.detection import DetCheckHook, RPNHeadFP32, SingleRoIExtractorFP32
from vit_dense.detection.check_hook import check_metric, iter_heads
from vit_dense.segmentation import CheckedSegDataset, SegCheckHook

Make = Callable[..., dict[str, Any]]
Build = Callable[[dict[str, Any]], Any]
CHANNELS = [8, 16, 24, 32]


class Detector(nn.Module):
    """The parts of a detector that the hook looks at."""

    def __init__(self, neck: nn.Module | None = None, num_classes: int = 2) -> None:
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.out_channels = tuple(CHANNELS)
        self.backbone.classifier = nn.Identity()
        self.backbone.classifier.num_classes = 1000
        if neck is not None:
            self.neck = neck
        self.rpn_head = RPNHead(in_channels=8, feat_channels=8)
        self.roi_head = nn.Module()
        self.roi_head.bbox_head = Shared2FCBBoxHead(
            in_channels=8, fc_out_channels=8, roi_feat_size=2, num_classes=num_classes
        )


def runner(model: nn.Module, dataset: Any = None, metric: Any = None) -> SimpleNamespace:
    loader = SimpleNamespace(dataset=dataset)
    evaluator = SimpleNamespace(metrics=[metric] if metric else [])
    return SimpleNamespace(
        model=model,
        iter=0,
        optim_wrapper=SimpleNamespace(),
        val_loop=object(),
        train_dataloader=loader,
        val_dataloader=loader,
        test_dataloader=loader,
        val_evaluator=evaluator,
        test_evaluator=evaluator,
    )


def fpn(channels: list[int]) -> FPN:
    return FPN(in_channels=channels, out_channels=8, num_outs=4)


def test_fitting_channels_pass() -> None:
    mapper = ChannelMapper(in_channels=CHANNELS, out_channels=8)
    for neck in (None, fpn(CHANNELS), mapper, nn.Sequential(fpn(CHANNELS))):
        DetCheckHook().before_run(runner(Detector(neck)))
    DetCheckHook().before_run(runner(nn.Identity()))


@pytest.mark.parametrize('kind', ['fpn', 'mapper', 'sequence'])
def test_channels_of_the_neck(kind: str) -> None:
    wrong = [8, 8, 8, 8]
    neck = {
        'fpn': fpn(wrong),
        'mapper': ChannelMapper(in_channels=wrong, out_channels=8),
        'sequence': nn.Sequential(fpn(wrong)),
    }[kind]
    with pytest.raises(ValueError, match=r'neck\.in_channels=\[8, 8, 8, 8\]') as error:
        DetCheckHook().before_run(runner(Detector(neck)))
    assert 'Set neck.in_channels=[8, 16, 24, 32]' in str(error.value)


@pytest.mark.parametrize('stage', ['before_train', 'before_val', 'before_test'])
def test_number_of_classes(dataset_config: Make, build: Build, stage: str) -> None:
    hook, dataset = DetCheckHook(), build(dataset_config())
    getattr(hook, stage)(runner(Detector(), dataset))
    with pytest.raises(ValueError, match=r'bbox_head\.num_classes=80.*has 2 classes') as error:
        getattr(hook, stage)(runner(Detector(num_classes=80), dataset))
    assert 'cat, dog' in str(error.value)
    assert 'num_classes=2' in str(error.value)


def test_data_sets_inside_wrappers(dataset_config: Make, build: Build) -> None:
    repeated = {'type': 'RepeatDataset', 'dataset': dataset_config(), 'times': 2}
    wrapped = build({'type': 'ConcatDataset', 'datasets': [repeated]})
    DetCheckHook().before_train(runner(Detector(), wrapped))
    with pytest.raises(ValueError, match='num_classes=3'):
        DetCheckHook().before_train(runner(Detector(num_classes=3), wrapped))


def test_metric_over_another_file(dataset_config: Make, build: Build, data_root: Path) -> None:
    dataset = build(dataset_config())
    own = CocoMetric(ann_file=str(data_root / 'annotations/train.json'))
    DetCheckHook().before_train(runner(Detector(), dataset, own))
    DetCheckHook().before_train(runner(Detector(), dataset, CocoMetric()))

    fewer, renamed = sound(), sound()
    fewer['images'], fewer['annotations'] = fewer['images'][:1], fewer['annotations'][:1]
    renamed['categories'][0]['name'] = 'tiger'
    for content, problem in ((fewer, '1 of 2 images are not in it'), (renamed, 'tiger')):
        metric = CocoMetric(ann_file=write(data_root, content, 'other.json'))
        with pytest.raises(ValueError, match=problem) as error:
            DetCheckHook().before_test(runner(Detector(), dataset, metric))
        assert 'test_evaluator.ann_file' in str(error.value)


def test_data_of_the_other_task(dataset_config: Make, build: Build, tmp_path: Path) -> None:
    masks = CheckedSegDataset(
        data_root=str(tmp_path),
        metainfo={'classes': ('a', 'b'), 'palette': [[0, 0, 0], [9, 9, 9]]},
        lazy_init=True,
    )
    with pytest.raises(ValueError, match=r'builds a detector.*CheckedSegDataset.*vit_upernet'):
        DetCheckHook().before_train(runner(Detector(), masks))
    with pytest.raises(ValueError, match=r'builds a segmentor.*CheckedCocoDataset'):
        SegCheckHook().before_train(runner(nn.Identity(), build(dataset_config())))


def test_positions_that_bfloat16_would_round(dataset_config: Make, build: Build) -> None:
    layer = {'type': 'RoIAlign', 'output_size': 2}
    dataset, told = build(dataset_config()), []
    ours, theirs = (SingleRoIExtractorFP32, RPNHeadFP32), (SingleRoIExtractor, RPNHead)
    for (kind, proposals), count in ((theirs, 3), (ours, 1)):
        model = Detector()
        model.rpn_head = proposals(in_channels=8, feat_channels=8)
        model.roi_head.extractor = kind(layer, out_channels=8, featmap_strides=[4])
        model.encoder = MultiScaleDeformableAttention(embed_dims=8, num_heads=2)
        state = runner(model, dataset)
        state.logger = SimpleNamespace(warning=told.append)
        for dtype in (None, torch.float16, torch.bfloat16):
            state.optim_wrapper.cast_dtype = dtype
            told.clear()
            DetCheckHook().before_train(state)
            assert len(told) == (count if dtype == torch.bfloat16 else 0)
    assert 'float16' in told[0]


def test_parts_with_classes_of_their_own() -> None:
    model = Detector()
    model.roi_head.semantic_head = nn.Module()
    model.roi_head.semantic_head.num_classes = 183
    model.backbone.num_classes = -1
    model.rpn_head = nn.Module()
    model.rpn_head.num_classes = 5
    assert all(name.startswith('roi_head.bbox_head') for name, _ in iter_heads(model))


def test_metric_without_truth(dataset_config: Make, build: Build, tmp_path: Path) -> None:
    path = write(tmp_path, {**sound(), 'annotations': []}, 'empty.json')
    dataset = build(dataset_config(ann_file=path, test_mode=True))
    with pytest.raises(ValueError, match=r'validation evaluator has no annotations.*format_only'):
        check_metric(CocoMetric(ann_file=path), dataset, 'validation')
    metric = CocoMetric(ann_file=path, format_only=True, outfile_prefix=str(tmp_path / 'out'))
    check_metric(metric, dataset, 'validation')
