"""The side of `released_models.py` that runs with mmcv 1.x, mmseg 0.x and mmdet 2.x.

    python benchmarks/released_models_old.py OLD path/to/ViT-Adapter MODEL OUTPUT_FOLDER

What the old libraries expect of NumPy is put back, and their compiled ops are ours or, for the
release's own, the PyTorch function that lies beside it. Nothing of the release is copied.
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
from released_cases import CASES, Case, images, original_size, regions
from released_parity import PlainSampling, Shell, randomise
from torch import Tensor, nn

import vit_dense  # noqa: F401 - its stand-in for `mmcv._ext` serves mmcv 1.x, too

VERSIONS = {'mmcv': '1.4.2', 'mmseg': '0.20.2', 'mmdet': '2.22.0'}


def load_libraries(old: Path, checkout: Path, task: str) -> None:
    """Imports the old libraries and the release's parts for them.

    Raises:
        ImportError: another version is found.
    """
    for name in ('bool', 'int', 'float', 'object'):
        if name not in np.__dict__:
            setattr(np, name, getattr(builtins, name))
    sys.path[:0] = [str(old), str(checkout / task)]
    for name in ('mmcv', 'mmseg' if task == 'segmentation' else 'mmdet'):
        found = importlib.import_module(name).__version__
        if found != VERSIONS[name]:
            raise ImportError(f'{name} {found}: {old} must hold {VERSIONS[name]}')
    Shell('MultiScaleDeformableAttention')
    Shell('ops').__path__ = [str(checkout / 'detection' / 'ops')]
    attention = importlib.import_module('ops.modules.ms_deform_attn')
    functions = importlib.import_module('ops.functions.ms_deform_attn_func')
    attention.MSDeformAttnFunction = PlainSampling(functions.ms_deform_attn_core_pytorch)
    importlib.import_module('mmseg_custom' if task == 'segmentation' else 'mmdet_custom')


def build(case: Case, checkout: Path) -> nn.Module:
    """The released model with random values everywhere."""
    from mmcv import Config

    config = Config.fromfile(str(checkout / case.config))
    model = config.model
    for part in (model, model.backbone):
        part.pop('pretrained', None)
    merge(model, case.theirs)
    on_one_process(model)
    if case.task == 'segmentation':
        from mmseg.models import build_segmentor as build_model
    else:
        from mmdet.models import build_detector as build_model

        model.train_cfg = None
    built = build_model(model).eval()
    randomise(built, seed=3)
    return built


def merge(config: Any, changes: dict[str, Any]) -> None:
    """Nested dictionaries into a config, in place."""
    for name, change in changes.items():
        if isinstance(change, dict):
            merge(config[name], change)
        else:
            config.update({name: change})


def on_one_process(config: Any) -> None:
    """Plain batch norms for synchronised ones, in place."""
    for part in config.values() if isinstance(config, dict) else config:
        if isinstance(part, dict | list | tuple):
            on_one_process(part)
    if isinstance(config, dict) and config.get('type') == 'SyncBN':
        config['type'] = 'BN'


def segment(model: nn.Module, maps: Any, image: Tensor) -> dict[str, Any]:
    """As in `released_models.py`."""
    original = (*original_size(image), 3)
    metas = [{'img_shape': (*image.shape[-2:], 3), 'ori_shape': original, 'flip': False}] * 2
    if hasattr(model.decode_head, 'query_feat'):
        classes, masks = model.decode_head(maps, metas)
        raw = {'classes': classes, 'masks': masks}
    else:
        raw = {head: getattr(model, head)(maps) for head in ('decode_head', 'auxiliary_head')}
    return raw | {'test': model.inference(image, metas, rescale=True)}


def detect(model: nn.Module, maps: Any, image: Tensor) -> dict[str, Any]:
    """As in `released_models.py`."""
    size, original = image.shape[-2:], original_size(image)
    scale = np.array([size[1] / original[1], size[0] / original[0]] * 2, dtype=np.float32)
    meta = {'img_shape': (*size, 3), 'pad_shape': (*size, 3), 'ori_shape': (*original, 3)}
    metas = [{**meta, 'scale_factor': scale, 'flip': False}] * 2
    maps = model.neck(maps)
    if not hasattr(model, 'roi_head'):
        raw = {'bbox_head': model.bbox_head(maps)}
    else:
        raw = {'rpn': model.rpn_head(maps)}
        head, boxes = model.roi_head, regions(image)
        stages = range(head.num_stages) if hasattr(head, 'num_stages') else [None]
        for stage in stages:
            first = () if stage is None else (stage,)
            boxed = head._bbox_forward(*first, maps, boxes)
            raw[f'boxes {stage}'] = [boxed['cls_score'], boxed['bbox_pred']]
            raw[f'masks {stage}'] = head._mask_forward(*first, maps, boxes)['mask_pred']
    return raw | {
        'found': [as_tensors(one) for one in model.simple_test(image, metas, rescale=True)]
    }


def as_tensors(found: Any) -> dict[str, Tensor]:
    """mmdet 2.x's results of one image, lists by class, as labels, boxes, scores and masks."""
    boxes, masks = found if isinstance(found, tuple) else (found, None)
    rows = torch.from_numpy(np.concatenate(boxes))
    labels = torch.cat([torch.full((len(one),), i) for i, one in enumerate(boxes)])
    out = {'labels': labels, 'boxes': rows[:, :4], 'scores': rows[:, 4]}
    if masks is not None:
        out['masks'] = torch.from_numpy(np.stack([mask for one in masks for mask in one]))
    return out


@torch.no_grad()
def main() -> None:
    """Writes the model's file and its outputs."""
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
