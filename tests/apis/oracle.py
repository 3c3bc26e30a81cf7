"""A detector that knows the truth: what is wrong in a metric is then the evaluation's doing."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmdet.models.detectors import BaseDetector
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor

import vit_dense.detection  # noqa: F401 - registers what the configs below name

HEIGHT, WIDTH, EDGE = 96, 128, 40
CORNERS = [(5, 3), (70, 40)]  # left and top of each square, one for each of the two classes
CLASSES = ('cat', 'dog')
SCALE = (2 * WIDTH, 2 * HEIGHT)

LOAD = {'type': 'LoadAnnotations', 'with_bbox': True, 'with_mask': True}
PIPELINE = [
    {'type': 'LoadImageFromFile'},
    {'type': 'Resize', 'scale': SCALE, 'keep_ratio': True},
    LOAD,
    {'type': 'PackDetInputs'},
]
VIEWS = [
    [{'type': 'Resize', 'scale': scale} for scale in (SCALE, (WIDTH, HEIGHT))],
    [{'type': 'RandomFlip', 'prob': prob} for prob in (0.0, 1.0)],
    [LOAD],
    [{'type': 'PackDetInputs'}],
]
TTA_PIPELINE = [{'type': 'LoadImageFromFile'}, {'type': 'TestTimeAug', 'transforms': VIEWS}]


@MODELS.register_module()
class OracleDetector(BaseDetector):
    """Predicts boxes and masks of the truth, moved to the right.

    Args:
        shift: By how many pixels of the image.
    """

    def __init__(self, shift: int = 0, data_preprocessor: dict | None = None) -> None:
        super().__init__(data_preprocessor)
        self.shift = shift
        # A checkpoint needs a tensor.
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def predict(self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample]) -> list:
        for sample in batch_data_samples:
            truth = sample.gt_instances
            # The truth is loaded after flips and keeps the image's own left and right.
            boxes = truth.bboxes.clone() + torch.tensor([self.shift, 0, self.shift, 0])
            masks = torch.from_numpy(truth.masks.to_ndarray()).bool().roll(self.shift, dims=2)
            if sample.get('flip'):
                boxes = torch.stack(
                    [WIDTH - boxes[:, 2], boxes[:, 1], WIDTH - boxes[:, 0], boxes[:, 3]], 1
                )
                masks = masks.flip(2)
            scores = torch.linspace(0.9, 0.6, len(boxes))
            sample.pred_instances = InstanceData(
                bboxes=boxes, labels=truth.labels, scores=scores, masks=masks
            )
        return batch_data_samples

    def loss(self, *_: Any) -> dict:
        raise NotImplementedError

    def _forward(self, *_: Any) -> tuple:
        raise NotImplementedError

    def extract_feat(self, batch_inputs: Tensor) -> tuple:
        raise NotImplementedError


def write_coco(folder: Path) -> None:
    """Two pictures of noise, each with one square of either class."""
    noise = np.random.default_rng(0)
    images, annotations = [], []
    for index in range(2):
        name = f'{index}.png'
        cv2.imwrite(str(folder / name), noise.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))
        images.append({'id': index + 1, 'file_name': name, 'height': HEIGHT, 'width': WIDTH})
        for label, (left, top) in enumerate(CORNERS):
            right, bottom = left + EDGE, top + EDGE
            annotation = {
                'id': len(annotations) + 1,
                'image_id': index + 1,
                'category_id': label + 1,
                'bbox': [left, top, EDGE, EDGE],
                'area': EDGE * EDGE,
                'iscrowd': 0,
                'segmentation': [[left, top, right, top, right, bottom, left, bottom]],
            }
            annotations.append(annotation)
    categories = [{'id': label, 'name': name} for label, name in enumerate(CLASSES, 1)]
    content = {'images': images, 'annotations': annotations, 'categories': categories}
    (folder / 'all.json').write_text(json.dumps(content))


def oracle_config(folder: Path, *, shift: int = 0) -> Config:
    """Returns a config that evaluates the oracle on `write_coco`'s data."""
    dataset = {
        'type': 'CheckedCocoDataset',
        'data_root': str(folder),
        'ann_file': 'all.json',
        'data_prefix': {'img': ''},
        'metainfo': {'classes': CLASSES},
        'test_mode': True,
        'pipeline': PIPELINE,
    }
    return Config(
        {
            'default_scope': 'mmdet',
            'work_dir': str(folder / 'work'),
            # Loggers live on by this name, which otherwise is the second of the start.
            'experiment_name': folder.name,
            'model': {
                'type': 'OracleDetector',
                'shift': shift,
                'data_preprocessor': {'type': 'DetDataPreprocessor'},
            },
            'test_dataloader': {
                'batch_size': 2,
                'num_workers': 0,
                'sampler': {'type': 'DefaultSampler', 'shuffle': False},
                'dataset': dataset,
            },
            'test_evaluator': {
                'type': 'CocoMetric',
                'ann_file': str(folder / 'all.json'),
                'metric': ['bbox', 'segm'],
            },
            'test_cfg': {'type': 'TestLoop'},
            'default_hooks': {'pictures': {'type': 'DetPicturesHook'}},
            'tta_pipeline': TTA_PIPELINE,
            'tta_model': {
                'type': 'BoxTTAModel',
                'tta_cfg': {'nms': {'type': 'nms', 'iou_threshold': 0.5}, 'max_per_img': 100},
            },
        }
    )
