"""Measure how much pretrained weights improve segmentation or detection.

With `--weights FILE` of a timm model, four arms run with the same seeds and budget: random start
and FILE as `checkpoint=`, each fine-tuned and with a frozen backbone:

    python benchmarks/transfer.py --data-root data/camvid --weights vit.safetensors \
      --model-name vit_small_patch14_dinov2 --backbone SimpleFeaturePyramid

Without it, a small ViT is first trained through timm's own API to predict the majority class of
patches of the same images (`patch_classifier.py`), and two fine-tuned arms run. Finished runs are
kept in the work directory, so that a stopped benchmark can be resumed; `curves.py` draws them.
"""

import argparse
import hashlib
import json
import statistics
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS
from patch_classifier import train_classifier

from vit_dense.apis import load_config, train_model

ARMS = ('scratch', 'transfer')
FROZEN = tuple(f'{arm}-frozen' for arm in ARMS)  # with --weights
# the adapter also reads the image; the simple pyramid reads only the ViT's tokens
BACKBONES = ('ViTAdapter', 'SimpleFeaturePyramid', 'TimmPyramid')
FIGURES = {'mIoU': ('val/mIoU', 1), 'AP': ('val/coco/bbox_mAP', 100)}  # and factor to percent


def parse_args() -> argparse.Namespace:
    """Parse the options; resuming compares those that change a result."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--data-root', required=True, help='in the layout of --config')
    parser.add_argument('--config', default='configs/vit_upernet_camvid.py')
    parser.add_argument('--work-dir', default='work_dirs/transfer')
    parser.add_argument('--json', help='file for the results; default: results.json in --work-dir')
    add_task_options(parser)
    vit = parser.add_argument_group('the model')
    vit.add_argument('--weights', help='file of --model-name; default: train a classifier')
    vit.add_argument('--model-name', default='vit_tiny_patch16_224')
    vit.add_argument('--depth', type=int, help='blocks; default: all with --weights, else 4')
    vit.add_argument('--model-kwargs', type=json.loads, default={}, help="timm's, as JSON")
    vit.add_argument('--backbone', choices=BACKBONES, default='ViTAdapter')
    pre = parser.add_argument_group('classifier')
    pre.add_argument('--patch-size', type=int, default=64, help='its image size in pixels')
    pre.add_argument('--patches', type=int, default=1500, help='training patches of each class')
    pre.add_argument('--epochs', type=int, default=12)
    pre.add_argument('--classifier-lr', type=float, default=1e-3)
    args = parser.parse_args()
    check_task_options(parser, args)
    if not args.weights:
        args.depth = args.depth or 4
        if args.backbone == 'TimmPyramid':
            parser.error('--backbone TimmPyramid needs --weights: the own classifier is a ViT')
    return args


def add_task_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the trainings that are compared."""
    seg = parser.add_argument_group('segmentation or detection')
    seg.add_argument('--seeds', type=int, default=3, help='runs of each arm')
    seg.add_argument('--scale', type=float, default=0.5, help='of all images')
    seg.add_argument('--iterations', type=int, default=400)
    seg.add_argument('--crop', type=int, default=128)
    seg.add_argument('--batch', type=int, default=4)
    seg.add_argument('--lr', type=float, default=3e-4)
    seg.add_argument('--vit-lr-mult', type=float, default=1.0, help='of pretrained weights')
    seg.add_argument('--layer-decay', type=float, default=1.0, help='of pretrained weights')
    seg.add_argument('--channels', type=int, default=64, help='width of the head')
    seg.add_argument('--drop-path', type=float, help="default: the config's")
    seg.add_argument('--final-norm', action='store_true', help="apply the ViT's last norm")
    seg.add_argument('--validations', type=int, default=1, help='points of the learning curve')


def check_task_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End the program if the validations do not divide the iterations."""
    if args.iterations % args.validations:
        parser.error(f'--validations {args.validations} must divide --iterations {args.iterations}')


def main() -> None:
    """Run what is missing and print the table."""
    args = parse_args()
    work_dir = Path(args.work_dir)
    not_compared = ('work_dir', 'json', 'seeds', 'data_root')
    settings = {key: value for key, value in vars(args).items() if key not in not_compared}
    if args.weights:  # by content: the file may move, or be replaced
        settings['weights'] = hashlib.sha256(Path(args.weights).read_bytes()).hexdigest()[:16]
    check_settings(work_dir / 'settings.json', settings)
    given = {'checkpoint': str(Path(args.weights).resolve())} if args.weights else None
    start = given or once(work_dir / 'classifier', lambda: train_classifier(args))
    arms = ARMS + FROZEN if args.weights else ARMS
    results: dict[str, list[dict[str, Any]]] = {arm: [] for arm in arms}
    for seed in range(args.seeds):
        for arm in arms:
            folder = work_dir / f'{arm}-{seed}'
            checkpoint = start['checkpoint'] if arm.startswith('transfer') else None
            todo = partial(segment, args, checkpoint, folder, seed, frozen=arm in FROZEN)
            results[arm].append(once(folder, todo))
    report = {'settings': settings, 'start': start, **results}
    out = Path(args.json or work_dir / 'results.json')
    out.write_text(json.dumps(report, indent=2) + '\n')
    print(format_report(start, results))
    print(f'\nresults in {out}')


def check_settings(path: Path, settings: dict[str, Any]) -> None:
    """Refuse to mix runs of different settings in one work directory, which is made if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_text(json.dumps(settings, indent=2) + '\n')
        return
    old = json.loads(path.read_text())
    changed = {key: (old.get(key), new) for key, new in settings.items() if old.get(key) != new}
    if changed:
        raise SystemExit(
            f'{path.parent} holds runs of other settings (old, new): {changed}; choose another '
            '--work-dir, or delete this one'
        )


def once(folder: Path, work: Any) -> dict[str, Any]:
    """Return the result of `work`, from `folder` if it was done before."""
    path = folder / 'result.json'
    if path.exists():
        return json.loads(path.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    result = work() | {'seconds': round(time.perf_counter() - start, 1)}
    path.write_text(json.dumps(result, indent=2) + '\n')
    print(f'{folder.name}: {result}', flush=True)
    return result


# --- segmentation or detection


def segment(
    args: argparse.Namespace,
    checkpoint: str | None,
    folder: Path,
    seed: int,
    frozen: bool = False,
    options: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Train the config with or without the weights; return the figures of all validations."""
    changed = budget(args) | (options or {})
    config = load_config(args.config, work_dir=str(folder), cfg_options=changed)
    if args.weights:  # the decay of the config would slow the random start's first layers
        mult, decay = (args.vit_lr_mult, args.layer_decay) if checkpoint else (1.0, 1.0)
        keys = {'backbone.vit.': {'lr_mult': mult}} if mult != 1 else {}
        config.optim_wrapper.paramwise_cfg = {'layer_decay_rate': decay, 'custom_keys': keys}
    shrink_images(config, args.scale, args.crop)
    set_backbone(config, args, checkpoint, frozen)
    runner = train_model(config, seed=seed)
    figure = 'mIoU' if 'decode_head' in config.model else 'AP'
    name, factor = FIGURES[figure]
    curve = [round(factor * float(x), 2) for x in runner.message_hub.get_scalar(name).data[0]]
    return {figure: curve[-1], 'curve': curve, 'seed': seed}


def budget(args: argparse.Namespace) -> dict[str, Any]:
    """Return config options for length, data and learning rate, without workers."""
    warm_up = max(1, args.iterations // 10)
    changed: dict[str, Any] = {
        'optim_wrapper.optimizer.lr': args.lr,
        'param_scheduler.0.end': warm_up,
        'param_scheduler.1.begin': warm_up,
        'param_scheduler.1.end': args.iterations,
        'train_cfg.max_iters': args.iterations,
        'train_cfg.val_interval': args.iterations // args.validations,
        'default_hooks.checkpoint': None,
        'train_dataloader.batch_size': args.batch,
    }
    for part in ('train', 'val', 'test'):
        changed[f'{part}_dataloader.num_workers'] = 0
        changed[f'{part}_dataloader.persistent_workers'] = False
        changed[f'{part}_dataloader.dataset.data_root'] = str(Path(args.data_root).resolve())
    return changed


def shrink_images(config: Config, scale: float, crop: int) -> None:
    """Set the size of images and crops in the pipelines."""
    if 'size' in config.model.data_preprocessor:
        config.model.data_preprocessor.size = (crop, crop)
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        for step in loader.dataset.pipeline:
            if step.type in ('Resize', 'RandomResize'):
                step.scale = tuple(int(edge * scale) for edge in step.scale)
            elif step.type == 'RandomCrop':
                step.crop_size = (crop, crop)


def set_backbone(
    config: Config, args: argparse.Namespace, checkpoint: str | None, frozen: bool = False
) -> None:
    """Set the timm model, its normalisation, the pyramid around it and the widths of the heads."""
    model, timm_model = config.model, config.model.backbone.vit
    kwargs = {**({'depth': args.depth} if args.depth else {}), **args.model_kwargs}
    timm_model.update(model_name=args.model_name, pretrained=False, checkpoint=checkpoint)
    timm_model.model_kwargs = kwargs  # update() would keep the config's depth
    if args.final_norm:
        timm_model.final_norm = True
    if args.drop_path is not None:
        timm_model.drop_path_rate = args.drop_path
    if args.backbone == 'TimmPyramid':
        timm_model.pop('window_size', None)
        model.backbone = timm_model = ConfigDict(timm_model, type=args.backbone)
    built = MODELS.build(timm_model)
    if args.backbone == 'TimmPyramid':
        widths = list(built.out_channels)
    elif args.backbone == 'SimpleFeaturePyramid':
        widths = [args.channels] * 4
        model.backbone = ConfigDict(type=args.backbone, vit=timm_model, out_channels=args.channels)
    else:
        widths = [built.embed_dim] * len(model.backbone.get('out_indices', range(4)))
    if frozen:  # all four stages, or all blocks
        timm_model.frozen_stages = 4 if args.backbone == 'TimmPyramid' else built.depth
    for key in ('mean', 'std'):
        model.data_preprocessor[key] = [255 * x for x in getattr(built, key)]
    if 'decode_head' in model:
        model.decode_head.update(in_channels=widths, channels=args.channels)
        model.auxiliary_head.update(in_channels=widths[2])
    else:  # the maps of strides 8, 16 and 32
        model.neck.update(
            in_channels=widths, start_level=len(widths) - 3, out_channels=args.channels
        )
        model.bbox_head.update(in_channels=args.channels, feat_channels=args.channels)
        model.test_cfg.score_thr = 0.0  # mmdet gives no AP, not 0, where nothing is found


# --- the report


def format_report(start: dict[str, Any], results: dict[str, list[dict[str, Any]]]) -> str:
    """Format all arms and the gains, which are taken seed by seed."""
    figure = next(name for name in FIGURES if name in results['scratch'][0])
    lines = []
    if 'accuracy' in start:
        lines = [
            f'classifier: {start["accuracy"]} % balanced accuracy on '
            f'{start["validation_patches"]} validation patches (chance {start["chance"]} %)',
            '',
        ]
    lines += [
        f'| weights  | {figure} (mean ± std) | min | max | runs | seconds a run |',
        '|----------|-------------------|-----|-----|------|---------------|',
    ]
    for arm, runs in results.items():
        scores = [run[figure] for run in runs]
        seconds = statistics.mean(run['seconds'] for run in runs)
        lines.append(
            f'| {arm:<8} | {mean_and_spread(scores)} | {min(scores):.2f} | {max(scores):.2f} | '
            f'{len(scores)} | {seconds:.0f} |'
        )
    for suffix in ('', '-frozen')[: len(results) // 2]:
        pairs = zip(results[f'scratch{suffix}'], results[f'transfer{suffix}'], strict=True)
        gain = mean_and_spread([with_[figure] - without[figure] for without, with_ in pairs])
        lines += ['', f'gain by transfer{suffix}, seed by seed: {gain} {figure}']
    return '\n'.join(lines)


def mean_and_spread(values: Sequence[float]) -> str:
    """Format the mean and the standard deviation."""
    spread = f'± {statistics.stdev(values):.2f}' if len(values) > 1 else '(one run)'
    return f'{statistics.mean(values):.2f} {spread}'


if __name__ == '__main__':
    main()
