"""No config needs `find_unused_parameters`: DDP takes two steps with every leaf, at small size.

DDP complains of unused parameters at the second step; a group of one process is enough to see it.
Leaves whose small models are equal, such as those of one model in several sizes, train once.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from leaves import DETECTION, SEGMENTATION, detects, name_of
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData, PixelData

WIDTH, DEPTH, EDGE, CLASSES = 64, 6, 128, 2


pytestmark = pytest.mark.usefixtures('process_group')


def shrink(config: Config) -> Any:
    """The model with timm's six tiny blocks as ViT, and two classes; the structure stays."""
    model = config.model
    body = model.backbone
    if body.type == 'TimmPyramid':
        body.pretrained = False
    else:
        body.vit.update(model_name='test_vit', pretrained=False, checkpoint=None)
        body.vit.pop('model_kwargs', None)
        body.vit.frozen_stages = min(body.vit.get('frozen_stages', -1), DEPTH)
        if 'out_indices' in body and body.type == 'PlainViT':
            body.out_indices = (0, 2, 3, 5)
        if body.type not in ('SimpleFeaturePyramid', 'PlainViT', 'EoMT'):
            body.update(deform_num_heads=4, conv_inplane=16)
            if 'interaction_indexes' in body:
                # the released light model has one stage, DINOv3-L four
                ends = {1: [[0, DEPTH - 1]], 4: [[0, 0], [1, 2], [3, 3], [4, 5]]}
                body.interaction_indexes = ends[len(body.interaction_indexes)]
        if body.type != 'SimpleFeaturePyramid':
            set_widths(model, WIDTH)
    set_sizes(model)
    model.data_preprocessor.pop('size', None)
    model.data_preprocessor.update(
        {'pad_size_divisor': EDGE} if 'neck' in model else {'size': (EDGE, EDGE)}
    )
    return model


trained_before: set[str] = set()


def structure_of(model: Any) -> str:
    """The text of a model's config without what changes numbers alone."""
    plain = Config({'model': model})
    for key in ('mean', 'std'):
        plain.model.data_preprocessor.pop(key, None)
    if 'vit' in plain.model.backbone:
        plain.model.backbone.vit.pop('drop_path_rate', None)
    return plain.pretty_text


def set_widths(model: Any, width: int) -> None:
    """Sets what the first layers after the backbone take."""
    parts = [model.get('neck'), model.get('decode_head'), model.get('auxiliary_head')]
    parts.append(model.get('panoptic_head'))
    for part in filter(None, parts):
        given = part.in_channels
        part.in_channels = [width] * len(given) if isinstance(given, list) else width
        if part.type == 'DPTHead':
            part.embed_dims = width


def set_sizes(node: Any) -> None:
    """Sets classes, layers, queries and numbers of boxes, wherever they are."""
    if isinstance(node, list):
        for one in node:
            set_sizes(one)
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        if key in ('num_classes', 'num_things_classes') and value:
            node[key] = CLASSES
        elif key in ('num_queries', 'num_dn_queries'):
            node[key] = 20
        elif key == 'num_stuff_classes' and value:
            node[key] = 0
        elif key == 'class_weight' and isinstance(value, list):
            node[key] = [1.0] * CLASSES + [0.1] * (len(value) % 2)
        elif key == 'num_points' and value > 256:
            node[key] = 256
        elif key in ('num', 'nms_pre', 'max_per_img'):  # boxes that are sampled and proposed
            node[key] = min(value, 32)
        elif key == 'num_layers':
            node[key] = 2
        else:
            set_sizes(value)


def batch(detector: bool) -> dict[str, Any]:
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmseg.structures import SegDataSample

    shape = (EDGE, EDGE)
    meta = {'img_shape': shape, 'ori_shape': shape, 'batch_input_shape': shape, 'pad_shape': shape}
    samples = []
    for _ in range(2):
        if detector:
            sample = DetDataSample(metainfo={**meta, 'scale_factor': (1.0, 1.0), 'img_id': 0})
            masks = torch.zeros(CLASSES, *shape, dtype=torch.uint8)
            masks[0, 16:80, 8:56] = masks[1, 32:120, 64:120] = 1
            sample.gt_instances = InstanceData(
                bboxes=torch.tensor([[8.0, 16, 56, 80], [64, 32, 120, 120]]),
                labels=torch.arange(CLASSES),
                masks=BitmapMasks(masks.numpy(), *shape),
            )
        else:
            sample = SegDataSample(metainfo=meta)
            sample.gt_sem_seg = PixelData(data=torch.randint(0, CLASSES, (1, *shape)))
        samples.append(sample)
    inputs = [torch.randint(0, 256, (3, *shape), dtype=torch.uint8) for _ in samples]
    return {'inputs': inputs, 'data_samples': samples}


@pytest.mark.slow
@pytest.mark.parametrize('path', [*SEGMENTATION, *DETECTION], ids=name_of)
def test_every_parameter_is_used(path: Path) -> None:
    if 'lora' in path.stem:
        pytest.importorskip('peft', reason='the extra [peft] is not installed')
    config = Config.fromfile(path)
    assert 'find_unused_parameters' not in config
    assert 'model_wrapper_cfg' not in config
    small = shrink(config)
    if (structure := structure_of(small)) in trained_before:
        return
    with DefaultScope.overwrite_default_scope(config.default_scope):
        model = MODELS.build(small)
        model.init_weights()
        wrapped = MMDistributedDataParallel(model.train())
        trained = [one for one in model.parameters() if one.requires_grad]
        optimizer = OptimWrapper(torch.optim.SGD(trained, lr=1e-4))
        for _ in range(2):
            losses = wrapped.train_step(batch(detects(path)), optimizer)
            assert torch.isfinite(losses['loss'])
    trained_before.add(structure)
