"""Measure how well the order of `vit-dense probe` agrees with the order after fine-tuning.

Eight starts of three architectures are fine-tuned on CamVid with one small head, the same seeds and
the same budget, and probed by the command's own function. The output is both scores of each start
and Kendall's tau (1: the same order, 0: none):

    python benchmarks/probe_agreement.py --data-root data/camvid \
        --vit vit_small_patch14_dinov2.safetensors --pyramid mobilenetv2_100.safetensors

The files are pretrained weights of the timm models that they are named after. A small ViT is
trained here to classify patches of the training images, for two lengths. Finished runs are kept in
the work directory: a benchmark that was stopped can be resumed.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from patch_classifier import train_classifier
from safetensors.torch import load_file, save_file
from scipy.stats import kendalltau
from tables import print_header, print_row
from transfer import check_settings, once, segment

from vit_dense.apis import load_config
from vit_dense.apis.probe import probe_model
from vit_dense.apis.probe_data import load_probe_data

CONFIG = 'configs/vit_upernet_camvid.py'
EPOCHS = (2, 12)  # of the patch classifier
SMALL_VIT = {'model_name': 'vit_tiny_patch16_224', 'depth': 4}
SIZES = (448, 240)  # longest edge: the default of the command, and that of fine-tuning
NOT_COMPARED = ('data_root', 'vit', 'pyramid', 'work_dir', 'seeds')


@dataclass(frozen=True)
class Start:
    """A timm model, and the weights that it starts from; None for random ones."""

    name: str
    model_name: str
    backbone: str
    weights: str | None = None
    model_kwargs: dict[str, Any] = field(default_factory=dict)


def parse_args() -> argparse.Namespace:
    """Parse the options; resuming compares those that change a result."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--data-root', required=True, help='CamVid')
    parser.add_argument('--vit', required=True, help='weights of vit_small_patch14_dinov2')
    parser.add_argument('--pyramid', required=True, help='weights of mobilenetv2_100')
    parser.add_argument('--work-dir', default='work_dirs/probe_agreement')
    parser.add_argument('--seeds', type=int, default=2, help='fine-tunings of each start')
    parser.add_argument('--images', type=int, default=200, help='of the probe')
    parser.add_argument('--iterations', type=int, default=200)
    parser.add_argument('--batch', type=int, default=4)
    parser.add_argument('--crop', type=int, default=160)
    parser.add_argument('--scale', type=float, default=0.5, help='of the images in fine-tuning')
    parser.add_argument('--lr', type=float, default=1e-3)
    parser.add_argument('--channels', type=int, default=64, help='width of the decode head')
    parser.add_argument(
        '--patches', type=int, default=600, help='for the classifier, of each class'
    )
    return parser.parse_args()


def main() -> None:
    """Run what is missing and print the table."""
    args = parse_args()
    work_dir = Path(args.work_dir)
    settings = {key: value for key, value in vars(args).items() if key not in NOT_COMPARED}
    check_settings(work_dir / 'settings.json', settings)
    starts = all_starts(args)
    probes = {size: [probed(args, one, size) for one in starts] for size in SIZES}
    tuned: list[list[float]] = [[] for _ in starts]
    for seed in range(args.seeds):  # a benchmark that is stopped has all starts of a seed
        for one, scores in zip(starts, tuned, strict=True):
            scores.append(fine_tuned(args, one, seed))
    report(starts, probes, tuned)


def all_starts(args: argparse.Namespace) -> list[Start]:
    """Return the starts; train the classifiers and cut the ViT where that is not done."""
    half = Path(args.work_dir) / 'half_vit.safetensors'
    if not half.exists():
        kept = [f'blocks.{block}.' for block in range(6, 12)]
        tensors = load_file(args.vit)
        save_file({k: v for k, v in tensors.items() if not k.startswith(tuple(kept))}, half)
    vit = ('vit_small_patch14_dinov2', 'SimpleFeaturePyramid')
    pyramid, same = ('mobilenetv2_100', 'TimmPyramid'), {'pad_type': 'same'}
    small = (SMALL_VIT['model_name'], 'SimpleFeaturePyramid')
    depth = {'depth': SMALL_VIT['depth']}
    trained = [
        Start(f'small ViT, patch classifier of {n} epochs', *small, classifier(args, n), depth)
        for n in EPOCHS
    ]
    return [
        Start('ViT-S/14, pretrained', *vit, args.vit),
        Start('ViT-S/14, pretrained, first 6 blocks', *vit, str(half), {'depth': 6}),
        Start('ViT-S/14, random', *vit),
        Start('MobileNetV2, pretrained', *pyramid, args.pyramid, same),
        Start('MobileNetV2, random', *pyramid, None, same),
        *trained,
        Start('small ViT, random', *small, None, depth),
    ]


def classifier(args: argparse.Namespace, epochs: int) -> str:
    """Train the patch classifier, and return its file."""
    folder = Path(args.work_dir) / f'classifier-{epochs}'
    settings = {**vars(args), **SMALL_VIT, 'work_dir': str(folder), 'epochs': epochs}
    settings |= {'patch_size': 64, 'classifier_lr': 1e-3}
    options = argparse.Namespace(**settings)
    return once(folder / 'classifier', lambda: train_classifier(options))['checkpoint']


def probed(args: argparse.Namespace, start: Start, size: int) -> dict[str, Any]:
    """Return the score of the probe, and its interval."""

    def work() -> dict[str, Any]:
        config = load_config(CONFIG, cfg_options={'data_root': str(Path(args.data_root).resolve())})
        data = load_probe_data(config, images=args.images, size=size)
        source = start.weights or 'random'
        name = f'{start.model_name}={source}'
        found = probe_model(data, name, model_kwargs=start.model_kwargs, device='cpu')
        return {'score': found.score, 'interval': found.interval}

    return once(folder_of(args, start) / f'probe-{size}', work)


def fine_tuned(args: argparse.Namespace, start: Start, seed: int) -> float:
    """Return the mIoU after fine-tuning."""
    settings = {**vars(args), 'config': CONFIG, 'validations': 1, 'depth': None}
    # `weights` turns the decay of the rates over layers off, which would slow random starts.
    settings |= {'model_name': start.model_name, 'backbone': start.backbone, 'weights': 'any'}
    settings |= {'model_kwargs': start.model_kwargs}
    is_vit = start.backbone != 'TimmPyramid'
    settings['final_norm'] = is_vit  # as the probe does
    settings['drop_path'] = 0.0 if is_vit else None
    # of pretrained weights
    settings['vit_lr_mult'], settings['layer_decay'] = (0.1, 0.65) if is_vit else (1.0, 1.0)
    folder = folder_of(args, start) / f'seed-{seed}'
    options = argparse.Namespace(**settings)
    return once(folder, lambda: segment(options, start.weights, folder, seed))['mIoU']


def folder_of(args: argparse.Namespace, start: Start) -> Path:
    """Return the folder of all runs of a start."""
    return Path(args.work_dir) / start.name.replace('/', '').replace(', ', '-').replace(' ', '_')


def report(
    starts: list[Start], probes: dict[int, list[dict[str, Any]]], tuned: list[list[float]]
) -> None:
    """Print both scores of each start, best fine-tuned one first, and the agreement."""
    means = [statistics.mean(scores) for scores in tuned]
    print_header('start', *(f'probe at {size} px' for size in SIZES), 'fine-tuned mIoU', 'seeds')
    for i in sorted(range(len(starts)), key=lambda i: -means[i]):
        scores = [probes[size][i] for size in SIZES]
        cells = ['{score:.1f} ({interval[0]:.1f} to {interval[1]:.1f})'.format(**x) for x in scores]
        each = ', '.join(f'{score:.1f}' for score in tuned[i])
        print_row(starts[i].name, *cells, f'{means[i]:.1f}', each)
    pretrained = [i for i, one in enumerate(starts) if one.weights]
    for size in SIZES:
        scores = [one['score'] for one in probes[size]]
        for name, chosen in (('all', range(len(starts))), ('pretrained', pretrained)):
            x, y = ([values[i] for i in chosen] for values in (scores, means))
            tau, p = kendalltau(x, y)
            pairs = list(combinations(chosen, 2))
            same = sum((scores[i] - scores[j]) * (means[i] - means[j]) > 0 for i, j in pairs)
            print(
                f'{size} px, {len(x)} starts ({name}): Kendall tau {tau:.2f} (p = {p:.3f}), '
                f'{same} of {len(pairs)} pairs in the same order'
            )


if __name__ == '__main__':
    main()
