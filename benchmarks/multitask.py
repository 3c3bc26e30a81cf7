"""Measure the cost of several heads on one frozen encoder, and the accuracy of two tasks on one.

    python benchmarks/multitask.py                                   # cost of three heads
    python benchmarks/multitask.py --train --data-root data/demo/    # accuracy, can be resumed

Cost: heads of segmentation on four maps of a frozen ViT, all on one pass or each alone; one
training step (with gradients of the heads) and one forward. The models run in turn in one process;
ratios are medians of the ratios within a turn, in CPU time.

Accuracy: `--config` trained on both tasks, for as many and for twice as many iterations as on each
task alone (the other one has weight 0, so that data and augmentation are the same).
"""

import argparse
import json
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measuring import seconds
from mmengine.config import Config
from mmengine.registry import MODELS
from tables import print_header, print_row
from torch import Tensor, nn
from transfer import check_settings, once

import vit_dense.multitask  # noqa: F401 - registers the model
from vit_dense.apis import load_config, train_model

CLASSES = 20
ARMS = {'seg': ({'det': 0.0}, 1), 'det': ({'seg': 0.0}, 1), 'both': (None, 1), 'both 2x': (None, 2)}
FIGURES = ('seg/mIoU', 'det/coco/bbox_mAP', 'det/coco/segm_mAP')


def heads(width: int) -> dict[str, dict[str, Any]]:
    """Return heads for the maps of a ViT of this width."""
    all_maps = {'in_channels': [width] * 4, 'in_index': [0, 1, 2, 3], 'num_classes': CLASSES}
    plain = {**all_maps, 'norm_cfg': {'type': 'BN'}, 'align_corners': False}
    return {
        'linear': {'type': 'LinearHead', 'in_channels': width, 'num_classes': CLASSES},
        'linear_ms': {'type': 'LinearHead', **all_maps},
        'mlp': {'type': 'SegformerHead', 'channels': 256, **plain},
        'dpt': {
            'type': 'DPTHead',
            'embed_dims': width,
            'input_transform': 'multiple_select',
            'readout_type': 'project',
            'post_process_channels': [width // 8, width // 4, width // 2, width],
            'channels': 64,
            **plain,
        },
    }


def build(name: str, size: int, chosen: list[str]) -> Any:
    """Build a model of several tasks, one for each head, on a frozen ViT."""
    vit = {'type': 'TimmViT', 'model_name': name, 'pretrained': False}
    with torch.device('meta'):
        alone = MODELS.build(vit)
    vit['frozen_stages'], width = alone.depth, alone.embed_dim
    taps = tuple(alone.depth * i // 4 - 1 for i in range(1, 5))
    backbone = {'type': 'PlainViT', 'vit': vit, 'out_indices': taps, 'output_cls_token': True}
    preprocessor = {'type': 'SegDataPreProcessor', 'size': (size, size)}
    tasks = {
        one: {
            'type': 'mmseg.EncoderDecoder',
            'data_preprocessor': preprocessor,
            'decode_head': heads(width)[one],
            'train_cfg': {},
            'test_cfg': {'mode': 'whole'},
        }
        for one in chosen
    }
    model = {'type': 'MultiTaskModel', 'backbone': backbone, 'tasks': tasks}
    built = MODELS.build(Config({'model': model}).model)
    for one, task in built.tasks.items():
        if one != 'dpt':  # which takes pairs of a map and a cls token
            head = task.decode_head
            head.forward = partial(_without_tokens, head.forward)
    return built.train()


def _without_tokens(forward: Callable, maps: Any) -> Tensor:
    return forward([one for one, _ in maps])


def train_step(model: nn.Module, image: Tensor) -> None:
    """Compute the gradients of all heads."""
    model.zero_grad()
    sum(out.float().square().mean() for out in model(image).values()).backward()


@torch.no_grad()
def predict(model: nn.Module, image: Tensor) -> None:
    """Compute the outputs of all heads."""
    model(image)


def measure_cost(args: argparse.Namespace) -> None:
    """Print the times of one head and of all, and their ratios."""
    names = args.heads
    models = {'all': build(args.model_name, args.size, names)}
    models |= {name: build(args.model_name, args.size, [name]) for name in names}
    image = torch.randn(args.batch, 3, args.size, args.size)
    print(f'{args.model_name}, frozen, {args.batch} images of {args.size}x{args.size}')
    print_header('step', 'heads', 'ms', 'all / this')
    for title, step in (('training', train_step), ('forward', predict)):
        times: dict[str, list[float]] = {name: [] for name in models}
        for turn in range(args.turns + 1):
            for name, model in models.items():
                spent = seconds(step, model, image, 'cpu')
                times[name] += [spent] if turn else []  # the first one warms up
        ratios = {
            name: statistics.median(a / b for a, b in zip(times['all'], times[name], strict=True))
            for name in models
        }
        for name, values in times.items():
            print_row(title, name, f'{1000 * statistics.median(values):.0f}', f'{ratios[name]:.2f}')
        mean = [sum(times[n][i] for n in names) / len(names) for i in range(args.turns)]
        ratio = statistics.median(a / b for a, b in zip(times['all'], mean, strict=True))
        print_row(title, 'mean of one', f'{1000 * statistics.median(mean):.0f}', f'{ratio:.2f}')


def train_arm(args: argparse.Namespace, folder: Path, seed: int, arm: str) -> dict[str, Any]:
    """Train the config on one task or both; return the last figures."""
    weights, times = ARMS[arm]
    length = args.iterations * times
    warm_up = max(1, length // 30)
    options = {
        'data_root': args.data_root,
        'num_workers': 0,
        'train_cfg.max_iters': length,
        'train_cfg.val_interval': length,
        'param_scheduler.0.end': warm_up,
        'param_scheduler.1.begin': warm_up,
        'param_scheduler.1.end': length,
        'default_hooks.checkpoint.interval': length,
        'default_hooks.checkpoint.save_best': None,
    }
    config = load_config(args.config, work_dir=str(folder), cfg_options=options)
    config.model.loss_weights = weights
    loaders = [config.train_dataloader, *config.val_dataloader.values()]
    for loader in loaders:
        loader.persistent_workers = False
    hub = train_model(config, seed=seed, resume='auto').message_hub
    found = {one: float(hub.get_scalar(f'val/{one}').current()) for one in FIGURES}
    return {one: round(v if one == FIGURES[0] else 100 * v, 2) for one, v in found.items()}


def measure_accuracy(args: argparse.Namespace) -> None:
    """Run what is missing, and print mean and range over the seeds."""
    work = Path(args.work_dir)
    check_settings(work / 'settings.json', {n: getattr(args, n) for n in ('config', 'iterations')})
    results: dict[str, list[dict[str, Any]]] = {arm: [] for arm in ARMS}
    for seed in range(args.seeds):
        for arm in ARMS:
            folder = work / f'{arm.replace(" ", "-")}-{seed}'
            results[arm].append(once(folder, partial(train_arm, args, folder, seed, arm)))
    (work / 'results.json').write_text(json.dumps(results, indent=2) + '\n')
    print_header('trained on', 'iterations', *FIGURES)
    for arm, (weights, times) in ARMS.items():
        row = []
        for figure in FIGURES:
            values = [one[figure] for one in results[arm]]
            is_trained = figure.split('/')[0] not in (weights or {})
            spread = f'{min(values):.1f} to {max(values):.1f}'
            row.append(f'{statistics.mean(values):.1f} ({spread})' if is_trained else '')
        print_row(arm, str(args.iterations * times), *row)


def main() -> None:
    """Parse the options and run one of both."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--model-name', default='vit_base_patch16_224')
    parser.add_argument('--heads', nargs='+', choices=heads(8), default=['linear', 'mlp', 'dpt'])
    parser.add_argument('--size', type=int, default=512)
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument('--turns', type=int, default=3)
    parser.add_argument('--train', action='store_true', help='measure accuracy instead of cost')
    parser.add_argument('--config', default='configs/vit_multitask_demo.py')
    parser.add_argument('--data-root', default='data/demo/')
    parser.add_argument('--work-dir', default='work_dirs/multitask')
    parser.add_argument('--iterations', type=int, default=600, help='of a task alone')
    parser.add_argument('--seeds', type=int, default=3)
    args = parser.parse_args()
    if args.train:
        measure_accuracy(args)
    else:
        measure_cost(args)


if __name__ == '__main__':
    main()
