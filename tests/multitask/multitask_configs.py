"""A tiny segmentor and detector, alone and on one encoder, and data for both."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

import vit_dense.multitask  # noqa: F401 - registers what the configs name

EDGE = 64
SEG_CLASSES, DET_CLASSES = ('ground', 'cat', 'dog'), ('cat', 'dog')
NORMALISATION = {'mean': [127.5] * 3, 'std': [127.5] * 3, 'bgr_to_rgb': True}
BACKBONE = {
    'type': 'SimpleFeaturePyramid',
    'vit': {'type': 'TimmViT', 'model_name': 'test_vit', 'pretrained': False},
    'out_channels': 16,
}
SEGMENTOR = {
    'type': 'mmseg.EncoderDecoder',
    'data_preprocessor': {'type': 'SegDataPreProcessor', 'size': (EDGE, EDGE), **NORMALISATION},
    'decode_head': {
        'type': 'LinearHead',
        'in_channels': [16] * 4,
        'in_index': [0, 1, 2, 3],
        'num_classes': 3,
    },
    'train_cfg': {},
    'test_cfg': {'mode': 'whole'},
}
DETECTOR = {
    'type': 'mmdet.RetinaNet',
    'data_preprocessor': {'type': 'DetDataPreprocessor', 'pad_size_divisor': 32, **NORMALISATION},
    'neck': {'type': 'FPN', 'in_channels': [16] * 4, 'out_channels': 16, 'num_outs': 4},
    'bbox_head': {
        'type': 'RetinaHead',
        'num_classes': 2,
        'in_channels': 16,
        'feat_channels': 16,
        'stacked_convs': 1,
        'anchor_generator': {
            'type': 'AnchorGenerator',
            'scales': [4],
            'ratios': [1.0],
            'strides': [4, 8, 16, 32],
        },
    },
    'train_cfg': {
        'assigner': {
            'type': 'MaxIoUAssigner',
            'pos_iou_thr': 0.5,
            'neg_iou_thr': 0.4,
            'ignore_iof_thr': -1,
        },
        'allowed_border': -1,
        'pos_weight': -1,
    },
    'test_cfg': {
        'nms_pre': 50,
        'score_thr': 0.0,
        'nms': {'type': 'nms', 'iou_threshold': 0.5},
        'max_per_img': 10,
    },
}
TASKS = {'seg': SEGMENTOR, 'det': DETECTOR}


def multitask(*names: str, **changes: Any) -> dict[str, Any]:
    """The config of a model of these tasks, by default of both."""
    tasks = {name: TASKS[name] for name in names or TASKS}
    return deepcopy({'type': 'MultiTaskModel', 'backbone': BACKBONE, 'tasks': tasks, **changes})


def build_multitask(*names: str, **changes: Any) -> Any:
    """Builds it, with the same weights for the same tasks."""
    torch.manual_seed(0)
    model = MODELS.build(Config({'model': multitask(*names, **changes)}).model)
    for name, parameter in model.named_parameters():
        if 'log_var' not in name:
            generator = torch.Generator().manual_seed(sum(map(ord, name)))
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def build_single(name: str, like: Any) -> Any:
    """Builds the ordinary model of a task, with the weights of a multi-task model."""
    task = deepcopy(TASKS[name])
    scope, _, task['type'] = task['type'].partition('.')
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(Config({'model': {**task, 'backbone': BACKBONE}}).model)
    own = f'tasks.{name}.'
    state = like.state_dict()
    model.load_state_dict(
        {k.removeprefix(own): v for k, v in state.items() if k.startswith(('backbone.', own))}
    )
    return model


def write_data(root: Path, count: int = 4) -> Path:
    """Images of one animal each, as masks and as boxes; the file ends in the number."""
    rng = np.random.default_rng(0)
    for split in ('training', 'validation'):
        images, objects = [], []
        for kind in ('images', 'annotations'):
            (root / kind / split).mkdir(parents=True)
        for index in range(count):
            label, (x, y) = index % 2, rng.integers(0, 32, 2)
            image = rng.integers(0, 256, (EDGE, EDGE, 3), np.uint8)
            mask = np.zeros((EDGE, EDGE), np.uint8)
            mask[y : y + 24, x : x + 20] = 1 + label
            image[mask > 0] = 40 + 180 * label
            cv2.imwrite(str(root / f'images/{split}/{index}.png'), image)
            cv2.imwrite(str(root / f'annotations/{split}/{index}.png'), mask)
            images.append({'id': index, 'file_name': f'{index}.png', 'width': 64, 'height': 64})
            box = [int(x), int(y), 20, 24]
            objects.append({'id': index + 1, 'image_id': index, 'category_id': label + 1,
                            'bbox': box, 'area': 480, 'iscrowd': 0})  # fmt: skip
        categories = [{'id': i, 'name': name} for i, name in enumerate(DET_CLASSES, 1)]
        content = {'images': images, 'annotations': objects, 'categories': categories}
        (root / f'annotations/instances_{split}.json').write_text(json.dumps(content))
    return root


LOAD = {'type': 'LoadImageFromFile'}
LOAD_BOXES = {'type': 'LoadAnnotations', 'with_bbox': True}
FLIP = {'type': 'RandomFlip', 'prob': 0.5}


def seg_data(root: Path, split: str = 'training', **changes: Any) -> dict[str, Any]:
    return {
        'type': 'mmseg.CheckedSegDataset',
        'data_root': str(root),
        'metainfo': {'classes': SEG_CLASSES},
        'data_prefix': {'img_path': f'images/{split}', 'seg_map_path': f'annotations/{split}'},
        'serialize_data': False,
        'pipeline': [LOAD, {'type': 'LoadAnnotations'}, FLIP, {'type': 'PackSegInputs'}],
        **changes,
    }


def det_data(root: Path, split: str = 'training', **changes: Any) -> dict[str, Any]:
    return {
        'type': 'mmdet.CheckedCocoDataset',
        'data_root': str(root),
        'metainfo': {'classes': DET_CLASSES},
        'ann_file': f'annotations/instances_{split}.json',
        'data_prefix': {'img': f'images/{split}'},
        'serialize_data': False,
        'pipeline': [LOAD, LOAD_BOXES, FLIP, {'type': 'PackDetInputs'}],
        **changes,
    }


def joint_data(root: Path, pipeline: Any = (FLIP,), **changes: Any) -> dict[str, Any]:
    seg = seg_data(root, pipeline=[{'type': 'LoadAnnotations'}, {'type': 'PackSegInputs'}])
    det = det_data(root, pipeline=[LOAD_BOXES, {'type': 'PackDetInputs'}])
    config = {'datasets': {'seg': seg, 'det': det}, 'pipeline': [LOAD, *pipeline]}
    return {'type': 'JointDataset', 'serialize_data': False, **config, **changes}


def own_data(root: Path) -> dict[str, Any]:
    return {'type': 'MultiTaskDataset', 'datasets': {'seg': seg_data(root), 'det': det_data(root)}}


def evaluation(root: Path) -> dict[str, Any]:
    """Data loaders and metrics of both tasks."""
    sampler = {'sampler': {'type': 'DefaultSampler', 'shuffle': False}}
    seg = seg_data(root, 'validation', type='CheckedSegDataset')
    seg['pipeline'] = [LOAD, {'type': 'LoadAnnotations'}, {'type': 'PackSegInputs'}]
    det = det_data(root, 'validation', type='CheckedCocoDataset', test_mode=True)
    keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
    scale = {'type': 'Resize', 'scale': (EDGE, EDGE), 'keep_ratio': True}
    det['pipeline'] = [LOAD, scale, LOAD_BOXES, {'type': 'PackDetInputs', 'meta_keys': keys}]
    return {
        'dataloader': {
            'seg': {'batch_size': 1, 'num_workers': 0, 'dataset': seg, **sampler},
            'det': {'batch_size': 2, 'num_workers': 0, 'dataset': det, **sampler},
        },
        'evaluator': {'seg': {'type': 'IoUMetric'}, 'det': {'type': 'CheckedCocoMetric'}},
    }


def training(root: Path, work: Path, *, iters: int = 4, **changes: Any) -> Config:
    """A training of both tasks on data sets of their own, with a checkpoint at each step."""
    path = Path(__file__).parents[2] / 'configs/_base_/multitask_runtime.py'
    runtime = Config.fromfile(path)
    evaluated = evaluation(root)
    config = {
        'model': multitask(),
        'train_dataloader': {
            'batch_size': 3,
            'num_workers': 0,
            'sampler': {'type': 'TaskSampler', 'per_batch': {'seg': 2, 'det': 1}},
            'dataset': own_data(root),
        },
        **{f'val_{key}': one for key, one in evaluated.items()},
        **{f'test_{key}': one for key, one in deepcopy(evaluated).items()},
        'optim_wrapper': {
            'optimizer': {'type': 'AdamW', 'lr': 1e-3, 'weight_decay': 0.01},
            'constructor': 'LayerDecayOptimWrapperConstructor',
            'paramwise_cfg': {'layer_decay_rate': 0.9},
        },
        'train_cfg': {'type': 'IterBasedTrainLoop', 'max_iters': iters, 'val_interval': iters},
        'work_dir': str(work),
        'randomness': {'seed': 1},
        'experiment_name': f'{work.parent.name}_{work.name}',
    }
    runtime.merge_from_dict(config)
    hooks = runtime.default_hooks
    hooks.checkpoint.update(interval=2, max_keep_ckpts=-1, save_best='seg/mIoU')
    for key, value in changes.items():
        runtime[key] = value
    return runtime
