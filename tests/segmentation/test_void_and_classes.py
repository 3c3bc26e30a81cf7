"""Values of void pixels, numbers of classes and sizes in a batch must agree before training."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS
from mmseg.evaluation import IoUMetric
from mmseg.models import FCNHead, SegDataPreProcessor
from torch import nn

from vit_dense.segmentation import SegCheckHook

Make = Callable[..., dict[str, Any]]
LOAD = [{'type': 'LoadImageFromFile'}, {'type': 'LoadAnnotations'}]
PACK = [{'type': 'PackSegInputs'}]
PAD = {'type': 'Pad', 'size': (64, 64)}


def segmentor(
    *, ignore: int = 255, loss: dict[str, Any] | None = None, **preprocessor: Any
) -> nn.Module:
    model = nn.Module()
    model.data_preprocessor = SegDataPreProcessor(**preprocessor)
    model.decode_head = FCNHead(
        in_channels=4,
        channels=4,
        num_classes=3,
        ignore_index=ignore,
        loss_decode=loss or {'type': 'CrossEntropyLoss'},
    )
    return model


def build(config: dict[str, Any]) -> Any:
    with DATASETS.switch_scope_and_registry('mmseg') as registry:
        return registry.build(config)


def runner(
    model: nn.Module, dataset: Any, *, metric: int = 255, batch: int = 1, validates: bool = True
) -> SimpleNamespace:
    loader = SimpleNamespace(dataset=dataset, batch_size=batch)
    evaluator = SimpleNamespace(metrics=[IoUMetric(ignore_index=metric)])
    names = {f'{split}_dataloader': loader for split in ('train', 'val', 'test')}
    names |= {f'{split}_evaluator': evaluator for split in ('val', 'test')}
    if not validates:
        del names['val_evaluator']
    loop = object() if validates else None
    return SimpleNamespace(model=model, iter=0, val_loop=loop, **names)


def train(make: Make, steps: list[dict[str, Any]], model: nn.Module, **options: Any) -> None:
    dataset = build(make(pipeline=[*LOAD, *steps, *PACK]))
    SegCheckHook().before_train(runner(model, dataset, **options))


def test_all_values_are_in_one_message(dataset_config: Make) -> None:
    model = segmentor(ignore=0, seg_pad_val=7, size=(64, 64))
    steps = [{'type': 'RandomRotate', 'prob': 0.5, 'degree': 10, 'seg_pad_val': 9}]
    with pytest.raises(ValueError, match=r'decode_head\.ignore_index=0') as error:
        train(dataset_config, steps, model, metric=254)
    for part in (
        'IoUMetric has ignore_index=254',
        'data_preprocessor.seg_pad_val=7',
        'RandomRotate.seg_pad_val=9',
        'the training data set has ignore_index=255',
    ):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ('steps', 'options', 'name'),
    [
        ([{**PAD, 'pad_val': {'img': 0, 'seg': 0}}], {}, r"Pad.pad_val\['seg'\]=0"),
        ([], {'seg_pad_val': 0, 'size_divisor': 32}, 'data_preprocessor.seg_pad_val=0'),
        ([], {'loss': {'type': 'TverskyLoss', 'ignore_index': 0}}, 'loss_decode.ignore_index=0'),
    ],
)
def test_each_value(
    dataset_config: Make, steps: list[dict[str, Any]], options: dict[str, Any], name: str
) -> None:
    with pytest.raises(ValueError, match=f'{name}.*Set all to the same value'):
        train(dataset_config, steps, segmentor(**options))


@pytest.mark.parametrize(
    ('steps', 'options'),
    [
        ([PAD], {}),
        # Nothing is padded.
        ([], {'seg_pad_val': 0}),
        # A class that the loss leaves out.
        ([], {'loss': {'type': 'DiceLoss', 'ignore_index': 0}}),
        ([], {'loss': {'type': 'TverskyLoss'}}),
        ([{'type': 'RandomCrop', 'crop_size': (32, 32), 'ignore_index': 0}], {}),
    ],
)
@pytest.mark.parametrize('validates', [True, False])
def test_values_that_agree_or_are_unused_pass(
    dataset_config: Make, steps: list[dict[str, Any]], options: dict[str, Any], validates: bool
) -> None:
    # The evaluation's pipeline may not pad; here, that of the training stands for both.
    dataset = build(dataset_config(pipeline=[*LOAD, *steps, *PACK]))
    state = runner(segmentor(**options), dataset, validates=validates)
    SegCheckHook().check_data(state, dataset, 'training')


@pytest.mark.parametrize('kind', ['CheckedSegDataset', 'BaseSegDataset'])
@pytest.mark.parametrize('reduce_zero_label', [False, True])
def test_one_class(dataset_config: Make, kind: str, reduce_zero_label: bool) -> None:
    meta = {'classes': ('road',), 'palette': [[0, 0, 0]]}
    config = dataset_config(type=kind, metainfo=meta, reduce_zero_label=reduce_zero_label)
    with pytest.raises(ValueError, match=r"classes=\('background', 'road'\), num_classes=2"):
        SegCheckHook().check_data(SimpleNamespace(model=nn.Identity()), build(config), 'training')


@pytest.fixture
def mixed(dataset_config: Make, data_root: Path) -> Make:
    """The second image of validation is smaller than the others."""
    for kind, channels in (('images', (3,)), ('annotations', ())):
        cv2.imwrite(str(data_root / f'{kind}/validation/1.png'), np.ones((36, 40, *channels)))
    return dataset_config


@pytest.mark.parametrize('stage', ['before_val', 'before_test'])
def test_several_sizes_in_a_batch(mixed: Make, stage: str) -> None:
    state = runner(segmentor(), build(mixed('validation')), batch=2)
    name = stage.removeprefix('before_')
    with pytest.raises(ValueError, match=f'{name}_dataloader.batch_size=2') as error:
        getattr(SegCheckHook(), stage)(state)
    assert '40x48' in str(error.value)
    assert '36x40' in str(error.value)
    assert '1.png' in str(error.value)


def test_one_size_in_a_batch_passes(mixed: Make) -> None:
    SegCheckHook().before_val(runner(segmentor(), build(mixed('validation'))))
    SegCheckHook().before_val(runner(segmentor(), build(mixed('training')), batch=4))
    resize = {'type': 'Resize', 'scale': (64, 64), 'keep_ratio': False}
    steps = [LOAD[0], resize, LOAD[1], *PACK]
    SegCheckHook().before_val(
        runner(segmentor(), build(mixed('validation', pipeline=steps)), batch=2)
    )
