"""Do whole released models, heads included, compute here what they compute in their own libraries?

    pip install --no-deps --no-build-isolation --target OLD mmcv==1.4.2 mmsegmentation==0.20.2 \
        mmdet==2.22.0
    python benchmarks/released_models.py OLD path/to/ViT-Adapter path/to/ViT-CoMer

The versions are those that both releases name. `released_models_old.py` builds the models from the
release's own config files in a process of its own, fills them with random values, saves them as
mmcv 1.x does and runs them. Here the files go through `CheckpointCheckHook` into the models of our
leaves, which see the same images: float32 on the CPU, batches of two. "Heads" are compared on the
release's own maps, the rest on ours.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from released_cases import CASES, Case, images, original_size, regions
from torch import Tensor, nn

import vit_dense.detection
import vit_dense.segmentation  # noqa: F401 - registers what the configs name
from vit_dense.engine import CheckpointCheckHook

CONFIGS = Path(__file__).parents[1] / 'configs'
LIMIT = 1e-4
NEAR = 0.1  # px; boxes nearer than this are the same thing


def build(case: Case) -> nn.Module:
    """Ours, from the leaf."""
    init_default_scope('mmseg' if case.task == 'segmentation' else 'mmdet')
    config = Config.fromfile(CONFIGS / f'{case.leaf}.py')
    vit = config.model.backbone.vit
    vit.pretrained = False
    if not case.leaf.startswith('released/'):  # as the leaves for released files say
        vit.update(type='ReleasedTimmViT', model_kwargs={'init_values': 1.0})
    config.merge_from_dict({f'model.{name}': value for name, value in case.ours.items()})
    return MODELS.build(config.model).eval()


def load(model: nn.Module, path: Path) -> int:
    """Loads a released file as a test does and returns the number of its tensors.

    Raises:
        ValueError, RuntimeError: a tensor is missing or left over.
    """
    checkpoint = torch.load(path)
    runner = SimpleNamespace(model=model, _train_loop=None, _resume=False)
    CheckpointCheckHook().after_load_checkpoint(runner, checkpoint)
    model.load_state_dict(checkpoint['state_dict'], strict=True)
    return len(checkpoint['state_dict'])


def segment(model: nn.Module, maps: Any, image: Tensor) -> dict[str, Any]:
    """What the heads make of the maps, and the probabilities of a test on the image."""
    from mmseg.structures import SegDataSample

    size = tuple(image.shape[-2:])
    meta = {'img_shape': size, 'pad_shape': size, 'ori_shape': original_size(image)}
    metas = [dict(meta) for _ in image]
    samples = [SegDataSample(metainfo=meta) for meta in metas]
    if hasattr(model.decode_head, 'query_feat'):
        classes, masks = model.decode_head(maps, samples)
        raw = {'classes': classes, 'masks': masks}
    else:
        raw = {head: getattr(model, head)(maps) for head in ('decode_head', 'auxiliary_head')}
    done = model.postprocess_result(model.inference(image, metas), samples)
    return raw | {'test': torch.stack([one.seg_logits.data.softmax(0) for one in done])}


def detect(model: nn.Module, maps: Any, image: Tensor) -> dict[str, Any]:
    """What neck and heads make of the maps, and what is found with them."""
    from mmdet.structures import DetDataSample

    size, original = image.shape[-2:], original_size(image)
    scale = (size[1] / original[1], size[0] / original[0])
    meta = {'img_shape': size, 'ori_shape': original, 'scale_factor': scale}
    samples = [DetDataSample(metainfo={**meta, 'batch_input_shape': size}) for _ in image]
    maps = model.neck(maps)
    if not hasattr(model, 'roi_head'):
        raw = {'bbox_head': model.bbox_head(maps)}
        found = model.bbox_head.predict(maps, samples, rescale=True)
    else:
        raw = {'rpn': model.rpn_head(maps)}
        head, boxes = model.roi_head, regions(image)
        stages = range(head.num_stages) if hasattr(head, 'num_stages') else [None]
        for stage in stages:
            first = () if stage is None else (stage,)
            boxed = head._bbox_forward(*first, maps, boxes)
            raw[f'boxes {stage}'] = [boxed['cls_score'], boxed['bbox_pred']]
            raw[f'masks {stage}'] = head._mask_forward(*first, maps, boxes)['mask_preds']
        proposals = model.rpn_head.predict(maps, samples, rescale=False)
        found = head.predict(maps, proposals, samples, rescale=True)
    return raw | {'found': [as_tensors(one) for one in found]}


def as_tensors(found: Any) -> dict[str, Tensor]:
    """mmdet's results of one image as labels, boxes, scores and masks."""
    names = {'labels': 'labels', 'boxes': 'bboxes', 'scores': 'scores', 'masks': 'masks'}
    return {ours: found[theirs] for ours, theirs in names.items() if theirs in found}


def largest_difference(ours: Any, theirs: Any) -> float:
    """Over tensors in lists of the same form."""
    if isinstance(ours, Tensor):
        same = ours.shape == theirs.shape
        return (ours - theirs).abs().max().item() if same else float('inf')
    return max(largest_difference(a, b) for a, b in zip(ours, theirs, strict=True))


def compare_found(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> tuple[int, float, float]:
    """How many things only one of both found; the rest's worst score, and share of mask pixels.

    Things whose scores are equal but for rounding may change places.
    """
    distance = (ours['boxes'][:, None] - theirs['boxes'][None]).abs().amax(-1)
    distance[ours['labels'][:, None] != theirs['labels'][None]] = float('inf')
    nearest, partner = distance.min(0)
    same = nearest < NEAR
    lost = len(ours['boxes']) + len(theirs['boxes']) - int(same.sum()) - len(partner[same].unique())
    if not same.any():
        return lost, 0.0, 0.0
    scores = (ours['scores'][partner[same]] - theirs['scores'][same]).abs().max().item()
    if 'masks' not in ours:
        return lost, scores, 0.0
    differ = ours['masks'][partner[same]] != theirs['masks'][same]
    return lost, scores, differ.float().mean().item()


def compare_tests(name: str, ours: Any, theirs: Any) -> str:
    """The results of a test, in words."""
    if name == 'test':
        labels = (ours.argmax(1) != theirs.argmax(1)).float().mean().item()
        return f'{labels:.1%} of labels, probabilities {largest_difference(ours, theirs):.0e}'
    rows = [compare_found(a, b) for a, b in zip(ours, theirs, strict=True)]
    lost, scores, pixels = zip(*rows, strict=True)
    found = sum(len(one['boxes']) for one in theirs)
    masks = f', {max(pixels):.0e} of mask pixels' if 'masks' in theirs[0] else ''
    return f'{sum(lost)} of {found} detections, scores {max(scores):.0e}{masks}'


@torch.no_grad()
def compare(name: str, case: Case, folder: Path) -> float:
    """Prints a row for each image and returns the largest difference of the raw outputs."""
    model = build(case)
    count = load(model, folder / 'model.pth')
    recorded = torch.load(folder / 'outputs.pth')
    run = segment if case.task == 'segmentation' else detect
    worst = 0.0
    for image, theirs in zip(images(case), recorded, strict=True):
        on_theirs = run(model, theirs.pop('maps'), image)
        ours = run(model, model.backbone(image), image)
        test = 'test' if 'test' in theirs else 'found'
        raw = [key for key in theirs if key != test]
        heads = max(largest_difference(on_theirs[key], theirs[key]) for key in raw)
        whole = max(largest_difference(ours[key], theirs[key]) for key in raw)
        largest = max(largest_value(theirs[key]) for key in raw)
        worst = max(worst, whole)
        size = f'{image.shape[-2]}x{image.shape[-1]}'
        told = compare_tests(test, ours[test], theirs[test])
        row = f'{name} | {count} | {size} | {heads:.1e} | {whole:.1e} | {largest:.0f} | {told}'
        print(f'| {row} |', flush=True)
    return worst


def largest_value(outputs: Any) -> float:
    """Over tensors in lists."""
    if isinstance(outputs, Tensor):
        return outputs.abs().max().item()
    return max(map(largest_value, outputs))


def main() -> int:
    """Prints the table; 1 where a difference reaches the limit."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('old', type=Path, help='folder with the old libraries')
    parser.add_argument('checkouts', type=Path, nargs='+', help='folders of the released code')
    parser.add_argument('--models', nargs='+', choices=CASES, default=list(CASES))
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    print('| model | tensors | image | heads | whole | largest value | tests differ in |')
    print('|---|---|---|---|---|---|---|')
    worst = 0.0
    for name in args.models:
        case = CASES[name]
        checkout = next((c for c in args.checkouts if (c / case.config).is_file()), None)
        if checkout is None:
            raise FileNotFoundError(f'{case.config} is in none of {args.checkouts}')
        with tempfile.TemporaryDirectory() as folder:
            script = Path(__file__).with_name('released_models_old.py')
            command = [sys.executable, str(script), str(args.old), str(checkout), name, folder]
            subprocess.run(command, check=True)
            worst = max(worst, compare(name, case, Path(folder)))
    print(f'\nLargest difference {worst:.1e}, limit {LIMIT:.0e}; torch {torch.__version__}')
    return int(worst >= LIMIT)


if __name__ == '__main__':
    sys.exit(main())
