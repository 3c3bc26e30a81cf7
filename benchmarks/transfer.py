"""Measure how much a classifier trained by timm improves segmentation.

A small ViT is trained through timm's own API to predict the majority class of image patches, saved
as an ordinary timm checkpoint, and passed to a segmentation config as `checkpoint=`. The same
config with the same seeds and budget runs without it. The output is both mIoUs and their spread:

    python benchmarks/transfer.py --data-root data/camvid

Finished runs are kept in the work directory: a benchmark that was stopped can be resumed.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import timm
import torch
from mmengine.config import Config, ConfigDict
from numpy.typing import NDArray
from timm.data import resolve_model_data_config
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import CheckpointSaver
from torch import Tensor, nn

from vit_dense.apis import load_config, train_model

VOID = 255
# edges of the windows that become patches, relative to the classifier's image size
WINDOW_SCALES = (0.5, 1.0, 1.5)
MIN_SHARE = 0.5  # of a window's pixels that its majority class must have
ARMS = ('scratch', 'transfer')
# the adapter also reads the image; the simple pyramid reads only the ViT's tokens
PYRAMID_OF = ('ViTAdapter', 'SimpleFeaturePyramid')

Window = tuple[int, int, int, int]  # image, top, left, edge


def parse_args() -> argparse.Namespace:
    """Parse the options; resuming compares those that change a result."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--data-root', required=True, help='data set in ADE20K layout')
    parser.add_argument('--config', default='configs/vit_upernet_camvid.py')
    parser.add_argument('--work-dir', default='work_dirs/transfer')
    parser.add_argument('--json', help='file for the results; default: results.json in --work-dir')
    parser.add_argument(
        '--seeds', type=int, default=3, help='segmentation runs with and without the classifier'
    )
    vit = parser.add_argument_group('the ViT')
    vit.add_argument('--model-name', default='vit_tiny_patch16_224')
    vit.add_argument('--depth', type=int, default=4, help='blocks')
    vit.add_argument('--backbone', choices=PYRAMID_OF, default='ViTAdapter', help='around the ViT')
    parser.add_argument(
        '--scale', type=float, default=0.5, help='of all images, for classifier and segmentation'
    )
    pre = parser.add_argument_group('classifier')
    pre.add_argument('--patch-size', type=int, default=64, help='its image size in pixels')
    pre.add_argument('--patches', type=int, default=1500, help='training patches of each class')
    pre.add_argument('--epochs', type=int, default=12)
    pre.add_argument('--classifier-lr', type=float, default=1e-3)
    seg = parser.add_argument_group('segmentation')
    seg.add_argument('--iterations', type=int, default=400)
    seg.add_argument('--crop', type=int, default=128)
    seg.add_argument('--batch', type=int, default=4)
    seg.add_argument('--lr', type=float, default=3e-4)
    seg.add_argument('--channels', type=int, default=64, help='width of the decode head')
    return parser.parse_args()


def main() -> None:
    """Run what is missing and print the table."""
    args = parse_args()
    work_dir = Path(args.work_dir)
    work_dir.mkdir(parents=True, exist_ok=True)
    not_compared = ('work_dir', 'json', 'seeds', 'data_root')
    settings = {key: value for key, value in vars(args).items() if key not in not_compared}
    check_settings(work_dir / 'settings.json', settings)
    classifier = once(work_dir / 'classifier', lambda: train_classifier(args))
    results: dict[str, list[dict[str, Any]]] = {arm: [] for arm in ARMS}
    for seed in range(args.seeds):
        for arm in ARMS:
            folder = work_dir / f'{arm}-{seed}'
            checkpoint = classifier['checkpoint'] if arm == 'transfer' else None
            run = once(folder, lambda c=checkpoint, f=folder, s=seed: segment(args, c, f, s))
            results[arm].append(run)
    report = {'settings': settings, 'classifier': classifier, **results}
    out = Path(args.json or work_dir / 'results.json')
    out.write_text(json.dumps(report, indent=2) + '\n')
    print(format_report(classifier, results))
    print(f'\nresults in {out}')


def check_settings(path: Path, settings: dict[str, Any]) -> None:
    """Refuse to mix runs of different settings in one work directory."""
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


# --- the classifier, trained by timm


def train_classifier(args: argparse.Namespace) -> dict[str, Any]:
    """Train on the majority class of patches, and save as timm's training script does."""
    seed_everything(0)
    train_images, train_labels = load_patches(args, 'training', args.patches)
    val_images, val_labels = load_patches(args, 'validation', max(1, args.patches // 5))
    classes = int(train_labels.max()) + 1
    model = timm.create_model(
        args.model_name, img_size=args.patch_size, depth=args.depth, num_classes=classes
    )
    data = resolve_model_data_config(model)
    optimizer = create_optimizer_v2(model, opt='adamw', lr=args.classifier_lr, weight_decay=0.05)
    scheduler = CosineLRScheduler(
        optimizer, t_initial=args.epochs, warmup_t=min(2, args.epochs // 2), warmup_lr_init=1e-5
    )
    saver = CheckpointSaver(
        model,
        optimizer,
        args=argparse.Namespace(model=args.model_name),
        checkpoint_dir=str(Path(args.work_dir) / 'classifier'),
        max_history=1,
    )
    accuracy = 0.0
    for epoch in range(args.epochs):
        scheduler.step(epoch)
        loss = train_epoch(model, optimizer, train_images, train_labels, data)
        accuracy = balanced_accuracy(model, val_images, val_labels, data)
        saver.save_checkpoint(epoch, metric=accuracy)
        print(f'classifier epoch {epoch + 1}: loss {loss:.3f}, accuracy {accuracy:.1f}', flush=True)
    return {
        'checkpoint': str(Path(args.work_dir) / 'classifier' / 'last.pth.tar'),
        'accuracy': round(accuracy, 2),
        'chance': round(100 / len(val_labels.unique()), 2),
        'training_patches': len(train_labels),
        'validation_patches': len(val_labels),
    }


def load_patches(args: argparse.Namespace, split: str, per_class: int) -> tuple[Tensor, Tensor]:
    """Load patches (N, 3, p, p), uint8 RGB, up to `per_class` of each class, and classes (N,)."""
    images = sorted((Path(args.data_root) / 'images' / split).glob('*'))
    if not images:
        raise SystemExit(
            f'no images in {args.data_root}/images/{split}; --data-root takes a folder with '
            'images/{training,validation} and annotations/{training,validation}'
        )
    masks = Path(args.data_root) / 'annotations' / split
    by_class: dict[int, list[Window]] = {}
    for index, path in enumerate(images):
        mask = cv2.imread(str(masks / f'{path.stem}.png'), cv2.IMREAD_UNCHANGED)
        for label, window in labelled_windows(mask, args.patch_size, args.scale):
            by_class.setdefault(label, []).append((index, *window))
    chosen = [
        (window, label)
        for label, windows in sorted(by_class.items())
        for window in random.Random(label).sample(windows, min(per_class, len(windows)))
    ]
    chosen.sort()  # by image: each is read once
    patches = np.empty((len(chosen), args.patch_size, args.patch_size, 3), np.uint8)
    loaded, image = -1, np.empty(0)
    for row, ((index, top, left, edge), _) in enumerate(chosen):
        if index != loaded:
            loaded, image = index, cv2.imread(str(images[index]))[:, :, ::-1]
        crop = np.ascontiguousarray(image[top : top + edge, left : left + edge])
        size = (args.patch_size, args.patch_size)
        patches[row] = cv2.resize(crop, size, interpolation=cv2.INTER_AREA)
    labels = torch.tensor([label for _, label in chosen])
    return torch.from_numpy(patches).permute(0, 3, 1, 2).contiguous(), labels


def labelled_windows(
    mask: NDArray[np.uint8], patch_size: int, scale: float
) -> list[tuple[int, tuple[int, int, int]]]:
    """Return the windows (top, left, edge) of a half-overlapping grid with a majority class."""
    found = []
    for window_scale in WINDOW_SCALES:
        edge = int(patch_size * window_scale / scale)
        for top in range(0, mask.shape[0] - edge + 1, edge // 2):
            for left in range(0, mask.shape[1] - edge + 1, edge // 2):
                window = mask[top : top + edge, left : left + edge]
                counts = np.bincount(window.ravel(), minlength=VOID + 1)[:VOID]
                label = int(counts.argmax())
                if counts[label] >= MIN_SHARE * window.size:
                    found.append((label, (top, left, edge)))
    return found


def train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    data: dict[str, Any],
    batch: int = 128,
) -> float:
    """Train for an epoch with flips, shifts and brightness; return the mean loss."""
    model.train()
    criterion = LabelSmoothingCrossEntropy()
    losses = []
    for rows in torch.randperm(len(labels)).split(batch):
        inputs = augment(normalise(images[rows], data))
        loss = criterion(model(inputs), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return statistics.mean(losses)


def augment(images: Tensor) -> Tensor:
    """Flip each image with probability 1/2; shift the batch and scale its brightness."""
    flip = torch.rand(len(images), 1, 1, 1) < 0.5
    images = torch.where(flip, images.flip(-1), images)
    reach = images.shape[-1] // 8
    shift = (random.randint(-reach, reach), random.randint(-reach, reach))
    images = images.roll(shift, dims=(-2, -1))
    return images * torch.empty(len(images), 1, 1, 1).uniform_(0.7, 1.3)


@torch.no_grad()
def balanced_accuracy(
    model: nn.Module, images: Tensor, labels: Tensor, data: dict[str, Any]
) -> float:
    """Return the mean accuracy over the classes, in percent."""
    model.eval()
    predicted = torch.cat([model(normalise(part, data)).argmax(1) for part in images.split(256)])
    right = (predicted == labels).double()
    return 100 * statistics.mean(right[labels == c].mean().item() for c in labels.unique())


def normalise(images: Tensor, data: dict[str, Any]) -> Tensor:
    """Normalise uint8 images as `resolve_model_data_config` says."""
    mean, std = (torch.tensor(data[key]).view(1, 3, 1, 1) for key in ('mean', 'std'))
    return (images.float() / 255 - mean) / std


def seed_everything(seed: int) -> None:
    """Seed Python and torch."""
    random.seed(seed)
    torch.manual_seed(seed)


# --- segmentation


def segment(
    args: argparse.Namespace, checkpoint: str | None, folder: Path, seed: int
) -> dict[str, Any]:
    """Train the config with or without the classifier's weights, and validate it at the end."""
    config = load_config(args.config, work_dir=str(folder), cfg_options=budget(args))
    shrink_images(config, args.scale, args.crop)
    set_backbone(config, args, checkpoint)
    runner = train_model(config, seed=seed)
    miou = runner.message_hub.get_scalar('val/mIoU').current()
    return {'mIoU': round(float(miou), 2), 'seed': seed}


def budget(args: argparse.Namespace) -> dict[str, Any]:
    """Return config options for length, data and learning rate, without workers."""
    warm_up = max(1, args.iterations // 10)
    changed: dict[str, Any] = {
        'optim_wrapper.optimizer.lr': args.lr,
        'param_scheduler.0.end': warm_up,
        'param_scheduler.1.begin': warm_up,
        'param_scheduler.1.end': args.iterations,
        'train_cfg.max_iters': args.iterations,
        'train_cfg.val_interval': args.iterations,
        'default_hooks.checkpoint.interval': args.iterations,
        'train_dataloader.batch_size': args.batch,
    }
    for part in ('train', 'val', 'test'):
        changed[f'{part}_dataloader.num_workers'] = 0
        changed[f'{part}_dataloader.persistent_workers'] = False
        changed[f'{part}_dataloader.dataset.data_root'] = str(Path(args.data_root).resolve())
    return changed


def shrink_images(config: Config, scale: float, crop: int) -> None:
    """Set the size of images and crops in the pipelines."""
    config.model.data_preprocessor.size = (crop, crop)
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        for step in loader.dataset.pipeline:
            if step.type in ('Resize', 'RandomResize'):
                step.scale = tuple(int(edge * scale) for edge in step.scale)
            elif step.type == 'RandomCrop':
                step.crop_size = (crop, crop)


def set_backbone(config: Config, args: argparse.Namespace, checkpoint: str | None) -> None:
    """Set the small ViT and the pyramid around it in the model."""
    model, vit = config.model, config.model.backbone.vit
    vit.update(
        model_name=args.model_name,
        pretrained=False,
        checkpoint=checkpoint,
        model_kwargs={'depth': args.depth},
    )
    width = timm.create_model(args.model_name, depth=1, num_classes=0).num_features
    if args.backbone == 'SimpleFeaturePyramid':
        model.backbone = ConfigDict(type=args.backbone, vit=vit, out_channels=args.channels)
        width = args.channels
    model.decode_head.update(in_channels=[width] * 4, channels=args.channels)
    model.auxiliary_head.update(in_channels=width)


# --- the report


def format_report(classifier: dict[str, Any], results: dict[str, list[dict[str, Any]]]) -> str:
    """Format both arms and the gain, which is taken seed by seed."""
    lines = [
        f'classifier: {classifier["accuracy"]} % balanced accuracy on '
        f'{classifier["validation_patches"]} validation patches (chance {classifier["chance"]} %)',
        '',
        '| weights  | mIoU (mean ± std) | min | max | runs | seconds a run |',
        '|----------|-------------------|-----|-----|------|---------------|',
    ]
    for arm in ARMS:
        scores = [run['mIoU'] for run in results[arm]]
        seconds = statistics.mean(run['seconds'] for run in results[arm])
        lines.append(
            f'| {arm:<8} | {mean_and_spread(scores)} | {min(scores):.2f} | {max(scores):.2f} | '
            f'{len(scores)} | {seconds:.0f} |'
        )
    gains = [
        with_['mIoU'] - without['mIoU']
        for without, with_ in zip(results['scratch'], results['transfer'], strict=True)
    ]
    lines += ['', f'gain by transfer, seed by seed: {mean_and_spread(gains)} mIoU']
    return '\n'.join(lines)


def mean_and_spread(values: Sequence[float]) -> str:
    """Format the mean and the standard deviation."""
    spread = f'± {statistics.stdev(values):.2f}' if len(values) > 1 else '(one run)'
    return f'{statistics.mean(values):.2f} {spread}'


if __name__ == '__main__':
    main()
