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
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

import vit_dense  # noqa: F401 - registers the adapters
from vit_dense.checkpoint import plan_released, recognise_released

LIBRARIES = {'segmentation': 'mmseg', 'detection': 'mmdet'}
CLASSES = {'vit_adapter': 'ViTAdapter', 'vit_comer': 'ViTCoMer'}  # by file
HEAD_NAMES = {'segmentation': 'decode_head.conv_seg.bias', 'detection': 'rpn_head.rpn_cls.bias'}
# The published settings: width, heads of the ViT, heads of the deformable attention, its ratio,
# and ViT-CoMer's hidden width over the ViT's in segmentation.
SIZES: dict[str, tuple[int, int, int, float, float]] = {
    'T': (192, 3, 6, 1.0, 6.0),
    'S': (384, 6, 6, 1.0, 1.5),
    'B': (768, 12, 12, 0.5, 1.0),
}
DEPTH = 12
STAGES = [[0, 2], [3, 5], [6, 8], [9, 11]]
WINDOW = 14
IMAGES = ((128, 192), (224, 160))  # height, width
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

    def register_module(self) -> Any:
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


def load_release(checkout: Path) -> dict[str, type[nn.Module]]:
    """The backbone class of each task, from the release's own files.

    Raises:
        FileNotFoundError: the folder is no such checkout.
    """
    ops = checkout / 'detection' / 'ops'
    folders = {t: checkout / t / f'{name}_custom/models/backbones' for t, name in LIBRARIES.items()}
    stem = next((s for s in CLASSES if (folders['detection'] / f'{s}.py').is_file()), None)
    if stem is None or not ops.is_dir():
        raise FileNotFoundError(
            f'{checkout} is no checkout of the released ViT-Adapter or ViT-CoMer: there is no '
            f'{" or ".join(CLASSES)} in {folders["detection"]}, or no {ops}'
        )
    Shell('mmcv')
    Shell('mmcv.runner', BaseModule=BaseModule)
    Shell('mmcv_custom', my_load_checkpoint=None)
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
    for task, folder in folders.items():
        Shell(f'released_{task}').__path__ = [str(folder)]
        module = importlib.import_module(f'released_{task}.{stem}')
        classes[task] = getattr(module, CLASSES[stem])
    return classes


def build_released(cls: type[nn.Module], task: str, size: str, window: int | None) -> nn.Module:
    """The released backbone of a published size, in evaluation mode."""
    width, heads, deform_heads, ratio, dim_ratio = SIZES[size]
    windowed = [window is not None and (i + 1) % 3 != 0 for i in range(DEPTH)]
    comer: dict[str, Any] = {}
    if cls.__name__ == 'ViTCoMer':
        comer = {'cnn_feature_interaction': True}
        comer |= {'dim_ratio': dim_ratio} if task == 'segmentation' else {}
    return cls(
        patch_size=16,
        embed_dim=width,
        depth=DEPTH,
        num_heads=heads,
        deform_num_heads=deform_heads,
        deform_ratio=ratio,
        interaction_indexes=STAGES,
        window_attn=windowed,
        window_size=[window if on else None for on in windowed],
        **comer,
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
    settings['vit'] = {**settings['vit'], 'window_size': window}
    ours = MODELS.build(settings)
    state, report = plan_released(recognised, ours.state_dict(), 'random weights')
    if report.missing or report.unexpected or report.mismatched:
        raise RuntimeError(str(report))
    ours.load_state_dict(state)
    return ours.eval()


def print_table(classes: dict[str, type[nn.Module]], sizes: list[str]) -> float:
    """Prints a row for each combination and returns the largest difference."""
    print('| size | task | window | image | stride 4 | 8 | 16 | 32 | largest value |')
    print('|---|---|---|---|---|---|---|---|---|')
    worst = 0.0
    for size, (task, cls), window in itertools.product(sizes, classes.items(), (None, WINDOW)):
        released = build_released(cls, task, size, window)
        randomise(released, seed=len(task))
        ours = build_ours(released, task, window)
        for height, width in IMAGES:
            image = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))
            with torch.no_grad():
                pairs = list(zip(released(image), ours(image), strict=True))
            differences = [(a - b).abs().max().item() for a, b in pairs]
            worst = max(worst, *differences)
            row = ' | '.join(f'{value:.1e}' for value in differences)
            largest = max(a.abs().max().item() for a, _ in pairs)
            where = f'{size} | {task} | {window or "off"} | {height}x{width}'
            print(f'| {where} | {row} | {largest:.1f} |', flush=True)
    return worst


def main() -> int:
    """Prints the table; 1 where a difference reaches the limit."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('checkout', type=Path, help='folder of the released repository')
    parser.add_argument('--sizes', nargs='+', choices=SIZES, default=['T', 'B'])
    args = parser.parse_args()
    warnings.simplefilter('ignore')  # the release is of its time: old imports, old calls
    worst = print_table(load_release(args.checkout), args.sizes)
    print(f'\nLargest difference {worst:.1e}, limit {LIMIT:.0e}; torch {torch.__version__}')
    return int(worst >= LIMIT)


if __name__ == '__main__':
    sys.exit(main())
