"""A detector of each kind, cut down, takes a training step and predicts; pipelines run."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from devices import DEVICES
from leaves import CONFIGS
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from mmengine.structures import InstanceData

import vit_dense.detection  # noqa: F401 - registers what the configs name
from vit_dense.inspection import explain

EDGE = 128
WIDTH = 64
ADAPTER = {
    kind: f'vit_adapter/vit-adapter-s-deit_{kind}_8xb2-{times}_coco'
    for kind, times in {
        'mask-rcnn': '3x',
        'cascade-mask-rcnn': '3x',
        'faster-rcnn': '1x',
        'retinanet': '1x',
        'atss': '3x',
        'dino-4scale': '12e',
    }.items()
}
VITDET = {
    f'vitdet-{kind}': f'vitdet/vitdet-b-mae_{kind}_8xb8-lsj-100e_coco'
    for kind in ('mask-rcnn', 'cascade-mask-rcnn')
}
QUERIES = {'mask2former': 'mask2former/vit-adapter-s-deit_mask2former_8xb2-lsj-50e_coco'}
KINDS = ADAPTER | VITDET | QUERIES
WITH_MASKS = {kind for kind in KINDS if kind.endswith(('mask-rcnn', 'mask2former'))}
pytestmark = pytest.mark.usefixtures('in_mmdet')


def small(kind: str) -> Config:
    """The config with timm's six tiny blocks as ViT, thin heads, and no threshold on scores."""
    config = Config.fromfile(CONFIGS / f'{KINDS[kind]}.py')
    model = config.model
    model.backbone.vit.update(model_name='test_vit', pretrained=False, drop_path_rate=0.0)
    if kind not in VITDET:
        model.backbone.update(deform_num_heads=4, conv_inplane=16)
    if kind == 'mask2former':
        shrink_queries(model)
    elif kind in ADAPTER:
        necks = model.neck if isinstance(model.neck, list) else [model.neck]
        for neck in necks:
            neck.in_channels = [WIDTH] * len(neck.in_channels)
    if kind not in ADAPTER:
        model.data_preprocessor.pad_size_divisor = EDGE
    if kind == 'mask2former':
        return config
    if kind == 'dino-4scale':
        model.num_queries = 20
        model.test_cfg.max_per_img = 10
        model.encoder.num_layers = model.decoder.num_layers = 2
        model.dn_cfg.group_cfg.num_dn_queries = 4
    else:
        model.test_cfg.get('rcnn', model.test_cfg).update(score_thr=0.0, max_per_img=10)
    if 'roi_head' in model:
        stages = model.train_cfg.rcnn
        for stage in stages if isinstance(stages, list) else [stages]:
            stage.sampler.num = 16
        model.train_cfg.rpn_proposal.max_per_img = model.test_cfg.rpn.max_per_img = 16
    return config


def shrink_queries(model: Any) -> None:
    head = model.panoptic_head
    head.update(in_channels=[WIDTH] * 4, num_queries=20)
    head.pixel_decoder.encoder.num_layers = head.transformer_decoder.num_layers = 2
    model.train_cfg.num_points = 256
    model.test_cfg.max_per_image = 10


def batch(with_masks: bool) -> dict[str, Any]:
    """A landscape and a portrait, of which the second has more than one object."""
    inputs, samples = [], []
    boxes = [[[10, 20, 60, 80]], [[5, 5, 40, 50], [20, 60, 90, 120]]]
    for corners, (height, width) in zip(boxes, [(96, EDGE), (EDGE, 100)], strict=True):
        inputs.append(torch.randint(0, 256, (3, height, width), dtype=torch.uint8))
        truth = InstanceData(
            bboxes=torch.tensor(corners, dtype=torch.float32),
            labels=torch.arange(len(corners)) * 79,
        )
        if with_masks:
            masks = np.zeros((len(corners), height, width), np.uint8)
            for mask, (left, top, right, bottom) in zip(masks, corners, strict=True):
                mask[top:bottom, left:right] = 1
            truth.masks = BitmapMasks(masks, height, width)
        shape = {'img_shape': (height, width), 'ori_shape': (height, width)}
        sample = DetDataSample(metainfo={**shape, 'scale_factor': (1.0, 1.0), 'img_id': 0})
        sample.gt_instances = truth
        samples.append(sample)
    return {'inputs': inputs, 'data_samples': samples}


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('kind', KINDS)
def test_trains_and_predicts(kind: str, device: str) -> None:
    config = small(kind)
    model = MODELS.build(config.model)
    model.init_weights()
    model.to(device)
    optimizer = build_optim_wrapper(model, config.optim_wrapper)
    with_masks = kind in WITH_MASKS
    model.train()
    data = model.data_preprocessor(batch(with_masks), training=True)
    loss, logs = model.parse_losses(model(**data, mode='loss'))
    assert torch.isfinite(loss)
    assert loss > 0
    assert ('loss_mask' in ' '.join(logs)) == with_masks
    loss.backward()
    assert not config.get('find_unused_parameters')
    check_gradients(model)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer.step()
    after = list(model.parameters())
    assert all(torch.isfinite(parameter).all() for parameter in after)
    moved = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert sum(moved) > len(moved) / 2

    model.eval()
    data = batch(with_masks)
    found = model.test_step(data)
    for sample, image in zip(found, data['inputs'], strict=True):
        check_instances(sample.cpu().pred_instances, image.shape[-2:], with_masks)


def check_gradients(model: torch.nn.Module) -> None:
    """Every part learns; a parameter without gradient would stop DDP."""
    unused = {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None}
    assert not unused, sorted(unused)
    parts = ['backbone.vit.model.blocks.0.', 'backbone.vit.model.blocks.5.', 'bbox_head.']
    parts += [f'{name}.' for name in ('rpn_head', 'mask_head', 'encoder', 'decoder')]
    for part in parts:
        learning = [p.grad for name, p in model.named_parameters() if part in name]
        reached = [gradient.abs().max() > 0 for gradient in learning if gradient is not None]
        assert any(reached) or not learning, part


def check_instances(found: InstanceData, size: tuple[int, int], with_masks: bool) -> None:
    height, width = size
    assert len(found) == 10
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    assert ((found.labels >= 0) & (found.labels < 80)).all()
    assert found.bboxes.shape == (10, 4)
    limits = torch.tensor([width, height, width, height])
    assert ((found.bboxes >= -1e-3) & (found.bboxes <= limits + 1e-3)).all()
    assert ('masks' in found) == with_masks
    if with_masks:
        assert found.masks.shape == (10, height, width)
        assert found.masks.dtype == torch.bool


@pytest.fixture
def coco_root(tmp_path: Path) -> Path:
    """One image of 240x320 with a box that has a polygon, and one without any."""
    image = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    for name in ('a.jpg', 'b.jpg'):
        cv2.imwrite(str(tmp_path / name), image)
    polygon = [40, 30, 200, 30, 200, 150, 40, 150]
    content = {
        'images': [
            {'id': number, 'file_name': name, 'height': 240, 'width': 320}
            for number, name in enumerate(('a.jpg', 'b.jpg'), 1)
        ],
        'annotations': [
            {
                'id': 1,
                'image_id': 1,
                'category_id': 1,
                'bbox': [40, 30, 160, 120],
                'area': 160 * 120,
                'iscrowd': 0,
                'segmentation': [polygon],
            }
        ],
        'categories': [{'id': 1, 'name': 'thing'}],
    }
    (tmp_path / 'all.json').write_text(json.dumps(content))
    return tmp_path


def load(config: Config, root: Path, split: str) -> Any:
    dataset = config[f'{split}_dataloader'].dataset
    dataset.update(
        data_root=str(root),
        ann_file='all.json',
        data_prefix={'img': ''},
        metainfo={'classes': ('thing',)},
    )
    return DATASETS.build(dataset)


# edges in pixels that a 240x320 image has after the training pipeline: least and most
TRAINED = {
    'faster-rcnn': (800, 1067),
    'atss': (384, 1024),
    'mask-rcnn': (384, 1024),
    'vitdet-mask-rcnn': (76, 1024),
}


@pytest.mark.parametrize('kind', TRAINED)
def test_images_pass_the_pipelines(kind: str, coco_root: Path) -> None:
    config = Config.fromfile(CONFIGS / f'{KINDS[kind]}.py')
    least, most = TRAINED[kind]
    with_masks = kind.endswith('mask-rcnn')
    train = load(config, coco_root, 'train')
    assert len(train) == 1, 'training leaves out images without objects'
    np.random.seed(0)
    for _ in range(8):
        sample = train[0]
        assert least <= min(sample['inputs'].shape[1:])
        assert max(sample['inputs'].shape[1:]) <= most
        truth = sample['data_samples'].gt_instances
        assert ('masks' in truth) == with_masks
        height, width = sample['inputs'].shape[1:]
        boxes = truth.bboxes.tensor
        assert ((boxes >= 0) & (boxes <= torch.tensor([width, height, width, height]))).all()

    config.train_dataloader.update(batch_size=1, num_workers=0, persistent_workers=False)
    loader = Runner.build_dataloader(config.train_dataloader, seed=0)
    assert len(next(iter(loader))['inputs']) == 1

    test = load(config, coco_root, 'val')
    assert len(test) == 2, 'evaluation does not'
    sample = test[0]
    expected = (768, 1024) if kind.startswith('vitdet') else (800, 1067)
    assert tuple(sample['inputs'].shape[1:]) == expected
    box = sample['data_samples'].gt_instances.bboxes
    box = getattr(box, 'tensor', box)
    assert box[0].tolist() == [40, 30, 200, 150], "the truth keeps its image's own size"


def test_cut_down_images_become_squares_of_one_size() -> None:
    config = Config.fromfile(CONFIGS / f'{VITDET["vitdet-mask-rcnn"]}.py')
    preprocessor = MODELS.build(config.model.data_preprocessor)
    data = preprocessor(batch(with_masks=True), training=True)
    assert data['inputs'].shape == (2, 3, 1024, 1024)
    assert data['data_samples'][0].gt_instances.masks.masks.shape == (1, 1024, 1024)


@pytest.mark.parametrize(
    'kind',
    [
        kind if kind in ('retinanet', 'mask2former') else pytest.param(kind, marks=pytest.mark.slow)
        for kind in KINDS
    ],
)
def test_detections_can_be_explained(kind: str) -> None:
    """Also those of dense heads, which mmdet detaches from the graph."""
    model = MODELS.build(small(kind).model).eval()
    model.init_weights()
    data = model.data_preprocessor({k: v[:1] for k, v in batch(False).items()}, False)
    found = explain(model, data, [str(index) for index in range(133)])
    assert f"detections of '{found.class_index}'" in found.target
    assert sum(float(x.sum()) for x in found.maps) > 0
