"""Measure what masked pretraining on unlabelled images brings, at several numbers of labels.

    python benchmarks/pretraining.py --images data/camvid/images/training data/coco128/images \
      --data-root data/camvid --minutes 90

A small ViT is pretrained on all images below the folders. Then segmentation is trained on shares of
the training labels, from the pretrained file and from a random start, with the same seeds, images
and budget. The images of a share are drawn by the seed, and those of a smaller one are among them.
Finished runs are kept in the work directory, and a stopped pretraining is resumed. At the end, a
table is printed, and the learning curves are drawn.
"""

import argparse
import json
import random
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import curves
from transfer import (
    BACKBONES,
    add_task_options,
    check_settings,
    check_task_options,
    mean_and_spread,
    once,
    segment,
)

from vit_dense.apis import load_config, train_model
from vit_dense.apis.runs import read_run
from vit_dense.data.pairs import IMAGE_SUFFIXES, list_files

ARMS = ('scratch', 'transfer')
NOT_COMPARED = ('work_dir', 'seeds', 'images', 'data_root', 'fractions')


def parse_args() -> argparse.Namespace:
    """Parse the options; resuming compares those that change a result."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--images', nargs='+', required=True, help='folders without labels')
    parser.add_argument('--data-root', required=True, help='labelled data in the layout of CamVid')
    parser.add_argument('--work-dir', default='work_dirs/pretraining')
    pre = parser.add_argument_group('pretraining')
    pre.add_argument(
        '--pretraining-config',
        default='configs/pretraining/mae_vit-t8-cpu_1xb32-200e_images-128x128.py',
    )
    length = pre.add_mutually_exclusive_group()
    length.add_argument('--epochs', type=int, help="default: the config's")
    length.add_argument('--minutes', type=float, help='as many epochs as they allow, measured')
    pre.add_argument('--workers', type=int, default=1)
    pre.add_argument('--options', type=json.loads, default={}, help="config's, as JSON")
    parser.add_argument('--config', default='configs/vit_upernet_camvid.py')
    parser.add_argument('--fractions', type=float, nargs='+', default=[0.1, 0.3, 1.0])
    parser.add_argument('--backbone', choices=BACKBONES[:2], default='SimpleFeaturePyramid')
    add_task_options(parser)
    args = parser.parse_args()
    check_task_options(parser, args)
    return args


def main() -> None:
    """Run what is missing, print the table and draw the curves."""
    args = parse_args()
    work_dir = Path(args.work_dir)
    settings = {key: value for key, value in vars(args).items() if key not in NOT_COMPARED}
    check_settings(work_dir / 'settings.json', settings)
    start = once(work_dir / 'pretraining', partial(pretrain, args))
    args.weights, args.depth = start['checkpoint'], None
    args.model_name, args.model_kwargs = start['model_name'], start['model_kwargs']
    report: dict[str, Any] = {'settings': settings, 'pretraining': start}
    panels = []
    for fraction in args.fractions:
        folder = work_dir / f'labels-{100 * fraction:g}'
        check_settings(folder / 'settings.json', settings)
        report[f'{fraction:g}'] = train_arms(args, fraction, folder)
        panels.append(f'{fraction:.0%} of the labels={folder}')
    (work_dir / 'results.json').write_text(json.dumps(report, indent=2) + '\n')
    print(format_report(report, args.fractions))
    curves.main(str(work_dir / 'curves.png'), *panels)
    print(f'\nresults and curves in {work_dir}')


def pretrain(args: argparse.Namespace) -> dict[str, Any]:
    """Pretrain, or resume; return the file, what it is of, and the figures of the training."""
    folder = Path(args.work_dir) / 'pretraining'
    if args.minutes:
        epochs = once(folder / 'speed', partial(count_epochs, args))['epochs']
    else:
        epochs = args.epochs
    train(args, folder, epochs, resume='auto')
    run = read_run(folder)
    last = Path((folder / 'last_checkpoint').read_text())
    figures = {name: curve[1][-1] for name, curve in run.curves.items() if name != 'lr'}
    config = load_config(args.pretraining_config, cfg_options=args.options)
    vit = config.model.vit
    model = {'model_name': vit.model_name, 'model_kwargs': vit.model_kwargs.to_dict()}
    return {'checkpoint': str(last), **model, 'iterations': run.curves['loss'][0][-1], **figures}


def count_epochs(args: argparse.Namespace) -> dict[str, Any]:
    """Measure the second of two epochs, and return how many the minutes allow."""
    runner = train(args, Path(args.work_dir) / 'pretraining/speed/run', 2)
    steps = len(runner.train_dataloader)
    times = runner.message_hub.get_scalar('train/time').data[0][steps:]
    seconds = statistics.mean(map(float, times)) * steps
    return {'epochs': max(2, int(60 * args.minutes / seconds)), 'seconds_of_epoch': seconds}


def train(args: argparse.Namespace, folder: Path, epochs: int | None, **options: Any) -> Any:
    """Train the pretraining config, with a probe on the labelled validation images."""
    changed: dict[str, Any] = {
        'data_root': [str(Path(one).resolve()) for one in args.images],
        'probe_root': str(Path(args.data_root).resolve()),
        'num_workers': args.workers,
        'visualizer.name': str(folder),  # one of each name in a process
    }
    if epochs:
        changed |= {'max_epochs': epochs, 'warm_up': max(1, epochs // 20)}
        changed |= {'val_interval': max(1, epochs // 10)}
    config = load_config(
        args.pretraining_config, work_dir=str(folder), cfg_options=changed | args.options
    )
    return train_model(config, seed=0, **options)


def train_arms(args: argparse.Namespace, fraction: float, folder: Path) -> dict[str, Any]:
    """Train with and without the pretrained weights, once for each seed."""
    results: dict[str, list[dict[str, Any]]] = {arm: [] for arm in ARMS}
    for seed in range(args.seeds):
        names = choose_images(Path(args.data_root) / 'images/training', fraction, seed)
        listed = folder / f'images-{seed}.txt'
        listed.write_text('\n'.join(names) + '\n')
        options = {'train_dataloader.dataset.ann_file': str(listed.resolve())}
        for arm in ARMS:
            weights = args.weights if arm == 'transfer' else None
            place = folder / f'{arm}-{seed}'
            todo = partial(segment, args, weights, place, seed, options=options)
            results[arm].append(once(place, todo) | {'images': len(names)})
    return results


def choose_images(folder: Path, fraction: float, seed: int) -> list[str]:
    """Return the names of a share of the images; those of a smaller share are among them."""
    names = [one for one in list_files(str(folder)) if Path(one).suffix.lower() in IMAGE_SUFFIXES]
    shuffled = random.Random(seed).sample(sorted(names), len(names))
    return sorted(shuffled[: max(1, round(fraction * len(names)))])


def format_report(report: dict[str, Any], fractions: list[float]) -> str:
    """Format both arms at each number of labels, and the gains, which are taken seed by seed."""
    start = report['pretraining']
    shown = ', '.join(f'{k} {v:.4g}' for k, v in start.items() if '/' in k or k == 'loss')
    lines = [
        f'pretraining: {start["iterations"]} iterations, {start["seconds"]:.0f} s; {shown}',
        '',
        '| labels | images | random start | pretrained | gain, seed by seed | mean gain |',
        '|--------|--------|--------------|------------|--------------------|-----------|',
    ]
    for fraction in fractions:
        arms = report[f'{fraction:g}']
        scores = [[run['mIoU'] for run in arms[arm]] for arm in ARMS]
        gains = [after - before for before, after in zip(*scores, strict=True)]
        cells = [f'{fraction:.0%}', str(arms['scratch'][0]['images'])]
        cells += [mean_and_spread(one) for one in scores]
        cells += [' '.join(f'{gain:+.2f}' for gain in gains), mean_and_spread(gains)]
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


if __name__ == '__main__':
    main()
