"""The pre-processing of exported files is that of the config's test pipeline, bit for bit."""

from typing import Any

import numpy as np
import pytest
import torch
from exported_models import segmentor
from mmcv.transforms import Resize as MmcvResize
from mmdet.models import DetDataPreprocessor
from mmdet.structures import DetDataSample
from torch import nn

from vit_dense.export import preprocessing_of
from vit_dense.export.pictures import drawn_pictures
from vit_dense.runtime.preprocessing import prepare_image, resize_image

SIZES = [(60, 90), (91, 47), (33, 200)]
NORMAL = {'mean': [123.675, 116.28, 103.53], 'std': [58.395, 57.12, 57.375]}


def read(step: dict[str, Any], module: nn.Module) -> Any:
    return preprocessing_of([{'type': 'LoadImageFromFile'}, step], module)


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize(
    'step',
    [
        {'scale': (128, 64), 'keep_ratio': True},
        {'scale': (64, 128), 'keep_ratio': True},
        {'scale': (77, 51)},
        {'scale_factor': 0.7},
        {'scale_factor': (1.3, 0.9)},
        {'scale': 61},
    ],
)
def test_resize(step: dict[str, Any], size: tuple[int, int]) -> None:
    if step == {'scale': 61}:
        step = {'scale': (61, 61), 'keep_ratio': False}
    image = drawn_pictures(size, count=1)[0]
    transform = MmcvResize(**step)
    expected = transform({'img': image.copy()})['img']
    module = nn.Module()
    module.data_preprocessor = DetDataPreprocessor()
    steps = read({'type': 'Resize', **step}, module)
    np.testing.assert_array_equal(resize_image(image, steps.resizes[0]), expected)


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('swap', [True, False])
def test_detection(size: tuple[int, int], swap: bool) -> None:
    module = nn.Module()
    module.data_preprocessor = DetDataPreprocessor(
        **NORMAL, bgr_to_rgb=swap, pad_size_divisor=32, pad_value=3
    )
    image = drawn_pictures(size, count=1)[0]
    data = {
        'inputs': [torch.from_numpy(image).permute(2, 0, 1)],
        'data_samples': [DetDataSample(metainfo={'img_shape': size})],
    }
    expected = module.data_preprocessor(data)['inputs'][0].numpy()
    steps = read({'type': 'PackDetInputs'}, module)
    found, inside = prepare_image(image, steps)
    assert inside == size
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    'padding', [None, {'size': (96, 224)}, {'size_divisor': 32}], ids=['none', 'size', 'divisor']
)
def test_segmentation(padding: dict[str, Any] | None) -> None:
    model = segmentor()
    model.module.data_preprocessor.test_cfg = padding
    image = drawn_pictures((33, 200), count=1)[0]
    prepared = model.prepare(next(iter_items(image)), options())
    expected = model.module.data_preprocessor(
        {'inputs': [prepared.data['inputs']], 'data_samples': [prepared.data['data_samples']]}
    )['inputs'][0].numpy()
    steps = preprocessing_of(model.config.test_dataloader.dataset.pipeline, model.module)
    np.testing.assert_array_equal(prepare_image(image, steps)[0], expected)


def iter_items(image: np.ndarray) -> Any:
    from vit_dense.runtime.inputs import expand

    return expand(image)


def options() -> Any:
    from vit_dense.runtime import PredictOptions

    return PredictOptions()
