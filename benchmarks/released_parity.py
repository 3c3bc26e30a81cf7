"""Do released weights compute here what they compute in the released code? A table of differences.

    python benchmarks/released_parity.py path/to/ViT-Adapter

The argument is a checkout of the released repository of ViT-Adapter or ViT-CoMer. Its backbones of
both tasks are built with random values everywhere (gammas and running statistics too), their state
dict goes through our key mapping into our adapter, and both see the same images on the CPU in
float32. What the release imports from OpenMMLab's old packages is replaced by empty shells, its
compiled op by the PyTorch function that lies beside it. Nothing of it is copied or kept.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import sys
import types
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

import vit_dense  # noqa: F401 - registers the adapters
from vit_dense.released import recognise_released

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
        width, depth, heads: of the ViT.
        deform_heads, deform_ratio: of the deformable attention.
        dim_ratio: ViT-CoMer's hidden width over the ViT's in segmentation.
        stages: how many exchanges the depth is cut into.
        tasks: that have such a release.
        options: of the released class alone.
    """

    width: int
    depth: int
    heads: int
    deform_heads: int
    deform_ratio: float
    dim_ratio: float | None = None
    stages: int = 4
    tasks: tuple[str, ...] = ('segmentation', 'detection')
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def is_beit(self) -> bool:
        """Whether the ViT is BEiT's."""
        return ('use_rel_pos_bias', True) in self.options


BEIT = (('qkv_bias', True), ('use_rel_pos_bias', True), ('init_values', 1e-6))
VARIANTS = {
    'T': Variant(192, 12, 3, 6, 1.0, dim_ratio=6.0),
    'S': Variant(384, 12, 6, 6, 1.0, dim_ratio=1.5),
    'B': Variant(768, 12, 12, 12, 0.5, dim_ratio=1.0),
    'L': Variant(1024, 24, 16, 16, 0.5),
    'B, MAE': Variant(
        768,
        12,
        12,
        12,
        0.5,
        tasks=('detection',),
        options=(('layer_scale', False), ('use_extra_extractor', False)),
    ),
    'B, light': Variant(
        768,
        12,
        12,
        12,
        0.5,
        stages=1,
        tasks=('segmentation',),
        options=(
            ('with_cffn', False),
            ('use_extra_extractor', False),
            ('add_vit_feature', False),
        ),
    ),
    'B, BEiT': Variant(768, 12, 12, 12, 0.5, options=BEIT),
    'L, BEiT': Variant(1024, 24, 16, 16, 0.5, options=BEIT),
}
LIMIT = 1e-4


class Shell(types.ModuleType):
    """A module that stands for a package of old which the release only mentions."""

    def __init__(self, name: str, **content: Any) -> None:
        super().__init__(name)
        self.__path__: list[str] = []
        self.__dict__.update(content)
        sys.modules[name] = self


class NoRegistry:
    """Takes what a decorator registers and leaves it as it is."""

    def register_module(self, force: bool = False) -> Any:
        return lambda cls: cls


class BaseModule(nn.Module):
    """mmcv's base class, whose only part here is to take no configuration."""

    def __init__(self) -> None:
        super().__init__()


class PlainSampling:
    """The compiled op's interface over the release's own PyTorch function."""

    def __init__(self, sample: Any) -> None:
        self.sample = sample

    def apply(
        self, value: Tensor, shapes: Tensor, starts: Tensor, places: Tensor, weights: Tensor, _: int
    ) -> Tensor:
        return self.sample(value, [(int(h), int(w)) for h, w in shapes], places, weights)


def load_release(checkout: Path) -> dict[tuple[str, str], type[nn.Module]]:
    """The backbone classes by task and name, from the release's own files.

    Raises:
        FileNotFoundError: the folder is no such checkout.
    """
    ops = checkout / 'detection' / 'ops'
    folders = {t: checkout / t / f'{name}_custom/models/backbones' for t, name in LIBRARIES.items()}
    stems = [stem for stem in CLASSES if (folders['detection'] / f'{stem}.py').is_file()]
    if not stems or not ops.is_dir():
        raise FileNotFoundError(
            f'{checkout} is no checkout of the released ViT-Adapter or ViT-CoMer: there is no '
            f'{" or ".join(CLASSES)} in {folders["detection"]}, or no {ops}'
        )
    Shell('mmcv')
    Shell('mmcv.runner', BaseModule=BaseModule)
    Shell('mmcv_custom', my_load_checkpoint=None, load_checkpoint=None)
    for library in LIBRARIES.values():
        Shell(library)
        Shell(f'{library}.models')
        Shell(f'{library}.models.builder', BACKBONES=NoRegistry())
        Shell(f'{library}.utils', get_root_logger=None)
    Shell('MultiScaleDeformableAttention')
    Shell('ops').__path__ = [str(ops)]
    attention = importlib.import_module('ops.modules.ms_deform_attn')
    functions = importlib.import_module('ops.functions.ms_deform_attn_func')
    attention.MSDeformAttnFunction = PlainSampling(functions.ms_deform_attn_core_pytorch)
    classes = {}
    for (task, folder), stem in itertools.product(folders.items(), stems):
        Shell(f'released_{task}').__path__ = [str(folder)]
        module = importlib.import_module(f'released_{task}.{stem}')
        classes[task, CLASSES[stem]] = getattr(module, CLASSES[stem])
    return classes


def build_released(
    cls: Any, task: str, variant: Variant, window: int | None, size: tuple[int, int]
) -> nn.Module:
    """The released backbone of a published size, in evaluation mode.

    Its BEiT for segmentation has indexes of one image size and runs no other; that for detection
    has windows in all blocks.
    """
    depth, stages = variant.depth, variant.stages
    options: dict[str, Any] = dict(variant.options)
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


@torch.no_grad()
def randomise(model: nn.Module, seed: int) -> None:
    """Random values everywhere, of the size that training leaves: maps stay within a few units."""
    generator = torch.Generator().manual_seed(seed)

    def noise(tensor: Tensor, scale: float) -> Tensor:
        return torch.randn(tensor.shape, generator=generator) * scale

    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        if name.endswith('running_var'):
            tensor.copy_(1 + noise(tensor, 0.3).abs())
        elif name.endswith('sampling_offsets.bias'):
            tensor.add_(noise(tensor, 0.5))  # heads keep looking in their directions
        elif tensor.ndim >= 2:
            fan_in = tensor[0].numel() if 'embed' not in name.split('.')[-1] else 1
            tensor.copy_(noise(tensor, fan_in**-0.5))
        elif 'gamma' in name or (name.endswith('weight') and tensor.ndim == 1):
            tensor.copy_(1 + noise(tensor, 0.2))
        else:
            tensor.copy_(noise(tensor, 0.1))


def build_ours(released: nn.Module, task: str, window: int | None) -> nn.Module:
    """Our adapter with the settings that the checkpoint tells, and its weights.

    Raises:
        RuntimeError: a tensor is missing, left over or of another shape.
    """
    state = {f'backbone.{name}': tensor for name, tensor in released.state_dict().items()}
    recognised = recognise_released(state | {HEAD_NAMES[task]: torch.zeros(1)})
    if recognised is None:
        raise RuntimeError('the release was not recognised by its names')
    settings = recognised.settings
    if not recognised.is_beit:
        settings['vit'] = {**settings['vit'], 'window_size': window}
    ours = MODELS.build(settings)
    state, report = recognised.plan(ours.state_dict(), 'random weights')
    if report.missing or report.unexpected or report.mismatched:
        raise RuntimeError(str(report))
    ours.load_state_dict(state)
    return ours.eval()


def print_table(classes: dict[tuple[str, str], Any], names: Sequence[str]) -> float:
    """Prints a row for each combination and returns the largest difference."""
    print('| size | task | window | image | stride 4 | 8 | 16 | 32 | largest value |')
    print('|---|---|---|---|---|---|---|---|---|')
    worst = 0.0
    for name, (task, cls_name), window, size in itertools.product(
        names, classes, (None, WINDOW), IMAGES
    ):
        variant = VARIANTS[name]
        if task not in variant.tasks or variant.is_beit != (cls_name == 'BEiTAdapter'):
            continue
        if variant.is_beit:
            if window is not None:
                continue  # it has its own in detection, and none in segmentation
            size = (size[0], size[0]) if task == 'segmentation' else size  # square in the release
        if cls_name == 'ViTCoMer' and (variant.options or (task, name) == ('segmentation', 'L')):
            continue  # no such release
        released = build_released(classes[task, cls_name], task, variant, window, size)
        randomise(released, seed=len(task))
        ours = build_ours(released, task, window)
        image = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            pairs = list(zip(released(image), ours(image), strict=True))
        differences = [(a - b).abs().max().item() for a, b in pairs]
        worst = max(worst, *differences)
        row = ' | '.join(f'{value:.1e}' for value in differences)
        largest = max(a.abs().max().item() for a, _ in pairs)
        own = f'{WINDOW}, {LARGE_WINDOW}' if variant.is_beit and task == 'detection' else ''
        where = f'{name} | {task} | {own or window or "off"} | {size[0]}x{size[1]}'
        print(f'| {where} | {row} | {largest:.1f} |', flush=True)
    return worst


def main() -> int:
    """Prints the table; 1 where a difference reaches the limit."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('checkout', type=Path, help='folder of the released repository')
    parser.add_argument('--sizes', nargs='+', choices=VARIANTS, default=['T', 'B'])
    args = parser.parse_args()
    warnings.simplefilter('ignore')  # the release is of its time: old imports, old calls
    worst = print_table(load_release(args.checkout), args.sizes)
    print(f'\nLargest difference {worst:.1e}, limit {LIMIT:.0e}; torch {torch.__version__}')
    return int(worst >= LIMIT)


if __name__ == '__main__':
    sys.exit(main())
