"""Measure images per second of training heads on a frozen ViT, with and without cached features.

    python benchmarks/cached_features.py path/to/camvid --weights vit.safetensors --turns 5

ViT-S/14 and CamVid in `configs/frozen/`, on one thread. The two types of ViT run in turn with the
same images, whose features are in the cache; the ratio is the median of the ratios within a turn.
A step reads and augments its images in this process.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, MODELS, DefaultScope
from tables import print_header, print_row
from torch import nn

from vit_dense.apis.config import load_config

CONFIG = 'vit_dense::frozen/plain-vit-s-dinov2_linear-cached_1xb8-2k_camvid-252x252.py'
WIDTH = 384
UPERNET = {
    'type': 'UPerHead',
    'in_channels': [WIDTH] * 4,
    'in_index': [0, 1, 2, 3],
    'pool_scales': (1, 2, 3, 6),
    'channels': 128,
    'num_classes': 11,
    'norm_cfg': {'type': 'TolerantBN'},
}
HEADS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    'linear layer, 1 tap': ({'type': 'PlainViT'}, {}),
    'linear layer, 4 taps': (
        {'type': 'PlainViT', 'num_maps': 4},
        {'in_channels': [WIDTH] * 4, 'in_index': [0, 1, 2, 3]},
    ),
    'SimpleFeaturePyramid, UPerNet-128': (
        {'type': 'SimpleFeaturePyramid', 'out_channels': WIDTH},
        UPERNET,
    ),
    'ViTAdapter(inject=False, tap_norm=True), UPerNet-128': (
        {'type': 'ViTAdapter', 'inject': False, 'tap_norm': True, 'deform_num_heads': 6},
        UPERNET,
    ),
}


def build(config: Config, vit: str, head: str, cache: str) -> nn.Module:
    """Build a segmentor in training mode on a ViT of this type."""
    backbone, changes = HEADS[head]
    options = dict(config.model.backbone.vit, type=vit, frozen_stages=12, cache_dir=cache)
    if vit == 'TimmViT':
        del options['cache_dir']
    decoder = changes if 'type' in changes else {**config.model.decode_head, **changes}
    torch.manual_seed(0)
    model = MODELS.build({**config.model, 'backbone': backbone | {'vit': options}} | {
        'decode_head': decoder
    })  # fmt: skip
    model.init_weights()
    return model.train()


def images_per_second(model: nn.Module, data: Any, indices: list[int], wrapper: Any) -> float:
    """Read a batch and train on it."""
    start = time.process_time()
    model.train_step(pseudo_collate([data[i] for i in indices]), wrapper)
    return len(indices) / (time.process_time() - start)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('data', help='folder of CamVid')
    parser.add_argument('--weights', help='file of a ViT-S/14; random if left out')
    parser.add_argument('--turns', type=int, default=5)
    parser.add_argument('--batch-size', type=int, default=8)
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = load_config(CONFIG, cfg_options={'data_root': args.data})
    config.model.backbone.vit.update(pretrained=False, checkpoint=args.weights)
    with DefaultScope.overwrite_default_scope('mmseg'), tempfile.TemporaryDirectory() as cache:
        data = DATASETS.build(config.train_dataloader.dataset)
        print_header('head', 'images/s, frozen', 'images/s, cached', 'ratio', 'MB per image')
        for head in HEADS:
            measure(config, head, data, args, Path(cache, str(len(head))))


def measure(config: Config, head: str, data: Any, args: Any, cache: Path) -> None:
    """Print a row."""
    models = [build(config, vit, head, str(cache)) for vit in ('TimmViT', 'CachedTimmViT')]
    models[1].backbone.vit.open_cache(len(data))
    wrappers = [build_optim_wrapper(model, config.optim_wrapper) for model in models]
    rates: list[list[float]] = [[], []]
    for turn in range(args.turns):
        indices = list(range(turn * args.batch_size, (turn + 1) * args.batch_size))
        images_per_second(models[1], data, indices, wrappers[1])  # fills the cache
        for model, wrapper, found in zip(models, wrappers, rates, strict=True):
            found.append(images_per_second(model, data, indices, wrapper))
    ratios = [b / a for a, b in zip(*rates, strict=True)]
    sizes = [file.stat().st_size for file in cache.rglob('*.npy')]
    frozen, cached = map(statistics.median, rates)
    ratio, size = statistics.median(ratios), statistics.mean(sizes) / 1e6
    print_row(head, f'{frozen:.2f}', f'{cached:.1f}', f'{ratio:.1f}', f'{size:.2f}')


if __name__ == '__main__':
    main()
