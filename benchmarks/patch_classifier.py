"""A patch classifier trained through timm's own API, as a start for `transfer.py`."""

import argparse
import random
import statistics
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import timm
import torch
from numpy.typing import NDArray
from timm.data import resolve_model_data_config
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import CheckpointSaver
from torch import Tensor, nn

VOID = 255
# edges of the windows that become patches, relative to the classifier's image size
WINDOW_SCALES = (0.5, 1.0, 1.5)
MIN_SHARE = 0.5  # of a window's pixels that its majority class must have

Window = tuple[int, int, int, int]  # image, top, left, edge


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
