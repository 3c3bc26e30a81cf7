"""The part of `released_models.py` that runs with mmcv 1.x, mmseg 0.x and mmdet 2.x.

    python -m benchmarks.parity.released_models_old OLD path/to/ViT-Adapter MODEL OUTPUT_FOLDER

It restores the NumPy names that the old libraries use. Their compiled ops are ours; the release's
own is its PyTorch function. Nothing of the release is copied.
"""

from __future__ import annotations

import builtins
import importlib
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import vit_dense  # noqa: F401 - its replacement for `mmcv._ext` also serves mmcv 1.x
from benchmarks.parity.common import use_plain_sampling
from benchmarks.parity.released_cases import (
    CASES,
    Case,
    detection_outputs,
    images,
    original_size,
    segmentation_outputs,
)
from benchmarks.parity.values import randomise

VERSIONS = {'mmcv': '1.4.2', 'mmseg': '0.20.2', 'mmdet': '2.22.0'}


def load_libraries(old: Path, checkout: Path, task: str) -> None:
    """Import the old libraries and the release's parts for them.

    Raises:
        ImportError: Another version is found.
    """
    for name in ('bool', 'int', 'float', 'object'):
        if name not in np.__dict__:
            setattr(np, name, getattr(builtins, name))
    sys.path[:0] = [str(old), str(checkout / task)]
    for name in ('mmcv', 'mmseg' if task == 'segmentation' else 'mmdet'):
        found = importlib.import_module(name).__version__
        if found != VERSIONS[name]:
            raise ImportError(f'{name} {found}: {old} must hold {VERSIONS[name]}')
    use_plain_sampling(checkout)
    importlib.import_module('mmseg_custom' if task == 'segmentation' else 'mmdet_custom')


def build(case: Case, checkout: Path) -> nn.Module:
    """Build the released model with random values everywhere."""
    from mmcv import Config

    config = Config.fromfile(str(checkout / case.config))
    model = config.model
    for part in (model, model.backbone):
        part.pop('pretrained', None)
    merge(model, case.theirs)
    replace_sync_bn(model)
    if case.task == 'segmentation':
        from mmseg.models import build_segmentor as build_model
    else:
        from mmdet.models import build_detector as build_model

        model.train_cfg = None
    built = build_model(model).eval()
    randomise(built, seed=3)
    return built


def merge(config: Any, changes: dict[str, Any]) -> None:
    """Merge nested dictionaries into a config, in place."""
    for name, change in changes.items():
        if isinstance(change, dict):
            merge(config[name], change)
        else:
            config.update({name: change})


def replace_sync_bn(config: Any) -> None:
    """Replace SyncBN by BN, in place."""
    for part in config.values() if isinstance(config, dict) else config:
        if isinstance(part, dict | list | tuple):
            replace_sync_bn(part)
    if isinstance(config, dict) and config.get('type') == 'SyncBN':
        config['type'] = 'BN'


def segment(model: nn.Module, maps: Any, image: Tensor) -> dict[str, Any]:
    """Return the outputs of the heads on the maps, and the probabilities of a test on the image."""
    original = (*original_size(image), 3)
    metas = [{'img_shape': (*image.shape[-2:], 3), 'ori_shape': original, 'flip': False}] * 2
    test = model.inference(image, metas, rescale=True)
    return segmentation_outputs(model, maps, metas) | {'test': test}


def detect(model: nn.Module, maps: Any, image: Tensor) -> dict[str, Any]:
    """Return the outputs of neck and heads on the maps, and the detections on the image."""
    size, original = image.shape[-2:], original_size(image)
    scale = np.array([size[1] / original[1], size[0] / original[0]] * 2, dtype=np.float32)
    meta = {'img_shape': (*size, 3), 'pad_shape': (*size, 3), 'ori_shape': (*original, 3)}
    metas = [{**meta, 'scale_factor': scale, 'flip': False}] * 2
    results = model.simple_test(image, metas, rescale=True)
    raw = detection_outputs(model, model.neck(maps), image, 'mask_pred')
    return raw | {'test': [as_tensors(one) for one in results]}


def as_tensors(found: Any) -> dict[str, Tensor]:
    """Convert mmdet 2.x's results of one image, lists by class, to tensors."""
    boxes, masks = found if isinstance(found, tuple) else (found, None)
    rows = torch.from_numpy(np.concatenate(boxes))
    labels = torch.cat([torch.full((len(one),), i) for i, one in enumerate(boxes)])
    out = {'labels': labels, 'boxes': rows[:, :4], 'scores': rows[:, 4]}
    if masks is not None:
        out['masks'] = torch.from_numpy(np.stack([mask for one in masks for mask in one]))
    return out


@torch.no_grad()
def main() -> None:
    """Write the model's file and its outputs."""
    old, checkout, name, folder = sys.argv[1:]
    warnings.simplefilter('ignore')
    case = CASES[name]
    load_libraries(Path(old), Path(checkout), case.task)
    from mmcv.runner import save_checkpoint

    model = build(case, Path(checkout))
    save_checkpoint(model, f'{folder}/model.pth', meta={'CLASSES': ('a', 'b')})
    run = segment if case.task == 'segmentation' else detect
    outputs = []
    for image in images(case):
        maps = tuple(model.backbone(image))
        outputs.append({'maps': maps, **run(model, maps, image)})
    torch.save(outputs, f'{folder}/outputs.pth')


if __name__ == '__main__':
    main()
