"""Compare the backbones of ViT-Adapter and ViT-CoMer with their released code.

    python -m benchmarks.parity.released_backbones path/to/ViT-Adapter

The argument is a checkout of one of the released repositories. Its backbones of both tasks are
built with random values everywhere (gammas and running statistics too), their state dict is loaded
into our adapter through our key mapping, and both get the same images, on the CPU in float32. What
the release imports from old OpenMMLab packages is replaced by stubs, its compiled op by its own
PyTorch function. Nothing of the release is copied or kept.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.parity.common import (
    conclude,
    largest_difference,
    largest_value,
    stub_module,
    use_plain_sampling,
)
from benchmarks.parity.loading import build_from_release
from benchmarks.parity.values import randomise
from benchmarks.tables import print_header, print_row

LIBRARIES = {'segmentation': 'mmseg', 'detection': 'mmdet'}
# by file
CLASSES = {'vit_adapter': 'ViTAdapter', 'vit_comer': 'ViTCoMer', 'beit_adapter': 'BEiTAdapter'}
HEAD_NAMES = {'segmentation': 'decode_head.conv_seg.bias', 'detection': 'rpn_head.rpn_cls.bias'}
WINDOW = 14
LARGE_WINDOW = 56  # of BEiT for detection, in the last block of each quarter
IMAGES: Sequence[tuple[int, int]] = ((128, 192), (224, 160))  # height, width


@dataclass(frozen=True)
class Variant:
    """Published settings of one size.

    Attributes:
        width, depth, heads: Of the ViT.
        deform_heads, deform_ratio: Of the deformable attention.
        dim_ratio: Hidden width of ViT-CoMer's MRFP over the ViT's, in segmentation.
        stages: Number of interaction stages.
        tasks: That have such a release.
        options: Further arguments of the released class.
    """

    width: int
    depth: int
    heads: int
    deform_heads: int
    deform_ratio: float
    dim_ratio: float | None = None
    stages: int = 4
    tasks: tuple[str, ...] = ('segmentation', 'detection')
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def is_beit(self) -> bool:
        """Whether the ViT is a BEiT."""
        return 'use_rel_pos_bias' in self.options


BASE, LARGE = (768, 12, 12, 12, 0.5), (1024, 24, 16, 16, 0.5)
BEIT = {'qkv_bias': True, 'use_rel_pos_bias': True, 'init_values': 1e-6}
MAE = {'layer_scale': False, 'use_extra_extractor': False}
LIGHT = {'with_cffn': False, 'use_extra_extractor': False, 'add_vit_feature': False}
VARIANTS = {
    'T': Variant(192, 12, 3, 6, 1.0, dim_ratio=6.0),
    'S': Variant(384, 12, 6, 6, 1.0, dim_ratio=1.5),
    'B': Variant(*BASE, dim_ratio=1.0),
    'L': Variant(*LARGE),
    'B, MAE': Variant(*BASE, tasks=('detection',), options=MAE),
    'B, light': Variant(*BASE, stages=1, tasks=('segmentation',), options=LIGHT),
    'B, BEiT': Variant(*BASE, options=BEIT),
    'L, BEiT': Variant(*LARGE, options=BEIT),
}


class NoRegistry:
    """A registry that returns classes unchanged."""

    def register_module(self, force: bool = False) -> Any:
        """Return a decorator that does nothing."""
        return lambda cls: cls


class BaseModule(nn.Module):
    """A stub of mmcv's base class, which is called without arguments."""

    def __init__(self) -> None:
        super().__init__()


def load_release(checkout: Path) -> dict[tuple[str, str], type[nn.Module]]:
    """Import the backbone classes, by task and name, from the release's own files.

    Raises:
        FileNotFoundError: The folder is not such a checkout.
    """
    ops = checkout / 'detection' / 'ops'
    folders = {t: checkout / t / f'{name}_custom/models/backbones' for t, name in LIBRARIES.items()}
    stems = [stem for stem in CLASSES if (folders['detection'] / f'{stem}.py').is_file()]
    if not stems or not ops.is_dir():
        raise FileNotFoundError(
            f'{checkout} is no checkout of the released ViT-Adapter or ViT-CoMer: there is no '
            f'{" or ".join(CLASSES)} in {folders["detection"]}, or no {ops}'
        )
    stub_module('mmcv')
    stub_module('mmcv.runner', BaseModule=BaseModule)
    stub_module('mmcv_custom', my_load_checkpoint=None, load_checkpoint=None)
    for library in LIBRARIES.values():
        stub_module(library)
        stub_module(f'{library}.models')
        stub_module(f'{library}.models.builder', BACKBONES=NoRegistry())
        stub_module(f'{library}.utils', get_root_logger=None)
    use_plain_sampling(checkout)
    classes = {}
    for (task, folder), stem in itertools.product(folders.items(), stems):
        stub_module(f'released_{task}', folder)
        module = importlib.import_module(f'released_{task}.{stem}')
        classes[task, CLASSES[stem]] = getattr(module, CLASSES[stem])
    return classes


def build_released(
    cls: Any, task: str, variant: Variant, window: int | None, size: tuple[int, int]
) -> nn.Module:
    """Build the released backbone of a published size, in evaluation mode.

    Its BEiT for segmentation has position indexes for one image size; that for detection has
    windows in all blocks.
    """
    depth, stages = variant.depth, variant.stages
    options = dict(variant.options)
    if variant.is_beit and task == 'segmentation':
        options['img_size'] = size
    elif variant.is_beit:
        options['window_attn'] = [True] * depth
        options['window_size'] = [*[WINDOW] * (depth // 4 - 1), LARGE_WINDOW] * 4
    else:
        windowed = [window is not None and (i + 1) % (depth // 4) != 0 for i in range(depth)]
        options['window_attn'] = windowed
        options['window_size'] = [window if on else None for on in windowed]
    if cls.__name__ == 'ViTCoMer':
        options |= {'cnn_feature_interaction': True}
        options |= {'dim_ratio': variant.dim_ratio} if task == 'segmentation' else {}
    return cls(
        patch_size=16,
        embed_dim=variant.width,
        depth=depth,
        num_heads=variant.heads,
        deform_num_heads=variant.deform_heads,
        deform_ratio=variant.deform_ratio,
        interaction_indexes=[
            [depth * i // stages, depth * (i + 1) // stages - 1] for i in range(stages)
        ],
        **options,
    ).eval()


def build_ours(released: nn.Module, task: str, window: int | None) -> nn.Module:
    """Build our adapter from the released backbone's state dict."""
    state = {f'backbone.{name}': tensor for name, tensor in released.state_dict().items()}
    return build_from_release(state | {HEAD_NAMES[task]: torch.zeros(1)}, window)


def combinations(
    classes: dict[tuple[str, str], Any], names: Sequence[str]
) -> Iterator[tuple[str, str, Any, int | None, tuple[int, int]]]:
    """Yield size, task, class, window and image size of what was released."""
    for name, (task, cls_name), window, size in itertools.product(
        names, classes, (None, WINDOW), IMAGES
    ):
        variant = VARIANTS[name]
        if task not in variant.tasks or variant.is_beit != (cls_name == 'BEiTAdapter'):
            continue
        if cls_name == 'ViTCoMer' and (variant.options or (task, name) == ('segmentation', 'L')):
            continue
        if variant.is_beit and window is not None:
            continue  # BEiT has windows of its own in detection, and none in segmentation
        square = variant.is_beit and task == 'segmentation'
        yield name, task, classes[task, cls_name], window, (size[0],) * 2 if square else size


@torch.no_grad()
def print_table(classes: dict[tuple[str, str], Any], names: Sequence[str]) -> float:
    """Print a row for each combination and return the largest difference."""
    strides = ('stride 4', '8', '16', '32')
    print_header('size', 'task', 'window', 'image', *strides, 'largest value')
    worst = 0.0
    for name, task, cls, window, size in combinations(classes, names):
        released = build_released(cls, task, VARIANTS[name], window, size)
        randomise(released, seed=len(task))
        ours = build_ours(released, task, window)
        image = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
        theirs = released(image)
        differences = list(map(largest_difference, ours(image), theirs))
        worst = max(worst, *differences)
        own = VARIANTS[name].is_beit and task == 'detection'
        windows = f'{WINDOW}, {LARGE_WINDOW}' if own else window or 'off'
        cells = [f'{difference:.1e}' for difference in differences]
        print_row(
            name, task, windows, f'{size[0]}x{size[1]}', *cells, f'{largest_value(theirs):.1f}'
        )
    return worst


def main() -> int:
    """Print the table; return 1 if a difference reaches the limit."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('checkout', type=Path, help='folder of the released repository')
    parser.add_argument('--sizes', nargs='+', choices=VARIANTS, default=['T', 'B'])
    args = parser.parse_args()
    warnings.simplefilter('ignore')  # the release uses outdated imports and calls
    return conclude([print_table(load_release(args.checkout), args.sizes)])


if __name__ == '__main__':
    sys.exit(main())
