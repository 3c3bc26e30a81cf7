"""Tiny models as `load_model` returns them, to be exported."""

from typing import Any

import torch
from leaves import CONFIGS
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from vit_dense.apis import TorchPredictor

CLASSES = ('a', 'b', 'c', 'd', 'e')
VIT = {'type': 'TimmViT', 'model_name': 'test_vit', 'model_kwargs': {'depth': 4}}
SHALLOW = {**VIT, 'model_kwargs': {'depth': 2}}
ADAPTER = {'vit': VIT, 'deform_num_heads': 4, 'conv_inplane': 16}
BACKBONES: dict[str, dict[str, Any]] = {
    'PlainViT': {'vit': SHALLOW},
    'SimpleFeaturePyramid': {'vit': VIT, 'out_channels': 32},
    'ViTAdapter': ADAPTER,
    'ViTCoMer': ADAPTER,
    'EoMT': {'vit': {**SHALLOW, 'final_norm': True}, 'num_queries': 8, 'num_blocks': 1},
    'TimmPyramid': {'model_name': 'test_convnext', 'norm': 'LN'},
}
SEGMENTATION_STEPS = [
    {'type': 'LoadImageFromFile'},
    {'type': 'Resize', 'scale': (128, 64), 'keep_ratio': True},
    {'type': 'LoadAnnotations'},
    {'type': 'PackSegInputs'},
]


def segmentor(
    backbone: str = 'PlainViT',
    head: dict[str, Any] | None = None,
    *,
    steps: list[dict[str, Any]] | None = None,
    test_cfg: dict[str, Any] | None = None,
    **changes: Any,
) -> TorchPredictor:
    """A segmentation model with random values everywhere; `changes` are to the backbone."""
    import vit_dense.segmentation  # noqa: F401 - registers

    with DefaultScope.overwrite_default_scope('mmseg'):
        body = {'type': backbone, **BACKBONES[backbone], **changes}
        channels = list(MODELS.build(body).out_channels)
        if head is None:
            head = {'type': 'LinearHead', 'in_channels': channels[-1]}
        else:
            head = {'in_channels': channels, **head}
        model = {
            'type': 'EncoderDecoder',
            'data_preprocessor': {
                'type': 'SegDataPreProcessor',
                'mean': [123.675, 116.28, 103.53],
                'std': [58.395, 57.12, 57.375],
                'bgr_to_rgb': True,
            },
            'backbone': body,
            'decode_head': {'num_classes': len(CLASSES), **head},
            'test_cfg': test_cfg or {'mode': 'whole'},
        }
        return _predictor(model, 'mmseg', steps or SEGMENTATION_STEPS)


def detector(config: Config, steps: list[dict[str, Any]]) -> TorchPredictor:
    """The detector of a config with random values everywhere."""
    import vit_dense.detection  # noqa: F401 - registers

    with DefaultScope.overwrite_default_scope('mmdet'):
        return _predictor(config.model, 'mmdet', steps)


def _predictor(model: Any, scope: str, steps: list[dict[str, Any]]) -> TorchPredictor:
    torch.manual_seed(0)
    config = Config(
        {
            'default_scope': scope,
            'model': model,
            'test_dataloader': {'dataset': {'type': 'x', 'pipeline': steps}},
        }
    )
    module = MODELS.build(config.model).eval()
    module.requires_grad_(False)
    for name, values in module.state_dict().items():
        if not values.any() and 'num_batches' not in name:
            torch.nn.init.normal_(values, std=0.1)
        elif name.endswith('conv_seg.weight'):  # differences between classes
            values.mul_(20)
    return TorchPredictor(module, config, {'classes': CLASSES}, torch.device('cpu'))


def head_of(file: str) -> dict[str, Any]:
    """The decode head of a config."""
    head: dict[str, Any] = Config.fromfile(CONFIGS / f'{file}.py').model.decode_head.to_dict()
    return head
