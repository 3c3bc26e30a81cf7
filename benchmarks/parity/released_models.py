"""Compare whole released models, heads included, with their own libraries.

    pip install --no-deps --no-build-isolation --target OLD mmcv==1.4.2 mmsegmentation==0.20.2 \
        mmdet==2.22.0
    python -m benchmarks.parity.released_models OLD path/to/ViT-Adapter path/to/ViT-CoMer

Both releases name these versions. `released_models_old.py` builds the models from the release's
config files in a separate process, fills them with random values, saves them as mmcv 1.x does and
runs them. Here the files are loaded through `CheckpointCheckHook` into the models of our configs,
which get the same images: float32 on the CPU, batches of two. "Heads" are compared on the release's
own maps, the rest on ours.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

import vit_dense.detection
import vit_dense.segmentation  # noqa: F401 - registers what the configs name
from benchmarks.parity.common import conclude, largest_difference, largest_value
from benchmarks.parity.loading import load_checkpoint
from benchmarks.parity.released_cases import (
    CASES,
    Case,
    detection_outputs,
    images,
    original_size,
    segmentation_outputs,
)
from benchmarks.tables import print_header, print_row

ROOT = Path(__file__).parents[2]
NEAR = 0.1  # px; boxes nearer than this are the same detection


def build(case: Case) -> nn.Module:
    """Build our model from its config."""
    init_default_scope('mmseg' if case.task == 'segmentation' else 'mmdet')
    config = Config.fromfile(ROOT / 'configs' / f'{case.leaf}.py')
    vit = config.model.backbone.vit
    vit.pretrained = False
    if not case.leaf.startswith('released/'):  # as in the configs for released files
        vit.update(type='ReleasedTimmViT', model_kwargs={'init_values': 1.0})
    config.merge_from_dict({f'model.{name}': value for name, value in case.ours.items()})
    return MODELS.build(config.model).eval()


def segment(model: nn.Module, maps: Any, image: Tensor) -> dict[str, Any]:
    """Return the outputs of the heads on the maps, and the probabilities of a test on the image."""
    from mmseg.structures import SegDataSample

    size = tuple(image.shape[-2:])
    meta = {'img_shape': size, 'pad_shape': size, 'ori_shape': original_size(image)}
    metas = [dict(meta) for _ in image]
    samples = [SegDataSample(metainfo=meta) for meta in metas]
    raw = segmentation_outputs(model, maps, samples)
    results = model.postprocess_result(model.inference(image, metas), samples)
    return raw | {'test': torch.stack([one.seg_logits.data.softmax(0) for one in results])}


def detect(model: nn.Module, maps: Any, image: Tensor) -> dict[str, Any]:
    """Return the outputs of neck and heads on the maps, and the detections on the maps."""
    from mmdet.structures import DetDataSample

    size, original = image.shape[-2:], original_size(image)
    scale = (size[1] / original[1], size[0] / original[0])
    meta = {'img_shape': size, 'ori_shape': original, 'scale_factor': scale}
    samples = [DetDataSample(metainfo={**meta, 'batch_input_shape': size}) for _ in image]
    maps = model.neck(maps)
    raw = detection_outputs(model, maps, image, 'mask_preds')
    if not hasattr(model, 'roi_head'):
        results = model.bbox_head.predict(maps, samples, rescale=True)
    else:
        proposals = model.rpn_head.predict(maps, samples, rescale=False)
        results = model.roi_head.predict(maps, proposals, samples, rescale=True)
    return raw | {'test': [as_tensors(one) for one in results]}


def as_tensors(found: Any) -> dict[str, Tensor]:
    """Convert mmdet's results of one image to labels, boxes, scores and masks."""
    names = {'labels': 'labels', 'boxes': 'bboxes', 'scores': 'scores', 'masks': 'masks'}
    return {ours: found[theirs] for ours, theirs in names.items() if theirs in found}


def compare_found(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> tuple[int, float, float]:
    """Match detections, whose order may differ where scores are equal up to rounding.

    Returns:
        The number of unmatched detections on both sides, the largest difference of matched scores,
        and the share of mask pixels that differ.
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


def compare_tests(ours: Any, theirs: Any) -> str:
    """Describe how the results of a test differ."""
    if isinstance(theirs, Tensor):
        labels = (ours.argmax(1) != theirs.argmax(1)).float().mean().item()
        return f'{labels:.1%} of labels, probabilities {largest_difference(ours, theirs):.0e}'
    rows = [compare_found(a, b) for a, b in zip(ours, theirs, strict=True)]
    lost, scores, pixels = zip(*rows, strict=True)
    found = sum(len(one['boxes']) for one in theirs)
    masks = f', {max(pixels):.0e} of mask pixels' if 'masks' in theirs[0] else ''
    return f'{sum(lost)} of {found} detections, scores {max(scores):.0e}{masks}'


@torch.no_grad()
def compare(name: str, case: Case, folder: Path) -> float:
    """Print a row for each image and return the largest difference of the raw outputs."""
    model = build(case)
    count = load_checkpoint(model, folder / 'model.pth')
    recorded = torch.load(folder / 'outputs.pth')
    run = segment if case.task == 'segmentation' else detect
    worst = 0.0
    for image, theirs in zip(images(case), recorded, strict=True):
        on_theirs = run(model, theirs.pop('maps'), image)
        ours = run(model, model.backbone(image), image)
        test = compare_tests(ours['test'], theirs.pop('test'))
        heads, whole = (
            max(largest_difference(outputs[key], theirs[key]) for key in theirs)
            for outputs in (on_theirs, ours)
        )
        worst = max(worst, whole)
        size = f'{image.shape[-2]}x{image.shape[-1]}'
        largest = largest_value(list(theirs.values()))
        print_row(name, count, size, f'{heads:.1e}', f'{whole:.1e}', f'{largest:.0f}', test)
    return worst


def main() -> int:
    """Print the table; return 1 if a difference reaches the limit."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('old', type=Path, help='folder with the old libraries')
    parser.add_argument('checkouts', type=Path, nargs='+', help='folders of the released code')
    parser.add_argument('--models', nargs='+', choices=CASES, default=list(CASES))
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    columns = ('model', 'tensors', 'image', 'heads', 'whole', 'largest value', 'tests differ in')
    print_header(*columns)
    differences = []
    for name in args.models:
        case = CASES[name]
        checkout = next((c for c in args.checkouts if (c / case.config).is_file()), None)
        if checkout is None:
            raise FileNotFoundError(f'{case.config} is in none of {args.checkouts}')
        with tempfile.TemporaryDirectory() as folder:
            script = [sys.executable, '-m', 'benchmarks.parity.released_models_old']
            paths = [args.old.resolve(), checkout.resolve(), name, folder]
            subprocess.run([*script, *map(str, paths)], check=True, cwd=ROOT)
            differences.append(compare(name, case, Path(folder)))
    return conclude(differences)


if __name__ == '__main__':
    sys.exit(main())
