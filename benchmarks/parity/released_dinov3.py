"""Compare ViTAdapter(inject=False) with the segmentation adapter of DINOv3's release.

    python -m benchmarks.parity.released_dinov3 path/to/dinov3

The argument is a checkout of the released repository, whose licence is its own: nothing of it is
copied or kept. Its adapter is built on its ViTs with random values everywhere, our adapter is built
and loaded from its state dict, and both get the same images, on the CPU in float32.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.parity.common import conclude, largest_difference, largest_value, stub_module
from benchmarks.parity.loading import build_from_release
from benchmarks.parity.values import randomise
from benchmarks.tables import print_header, print_row

# by size: the release's function, and the blocks that its decoder takes maps from
MODELS = {
    'S': ('dinov3_vits16', [2, 5, 8, 11]),
    'S+': ('dinov3_vits16plus', [2, 5, 8, 11]),
    'B': ('dinov3_vitb16', [2, 5, 8, 11]),
    'L': ('dinov3_vitl16', [4, 11, 17, 23]),
}
IMAGES = ((128, 192), (224, 160))  # height, width
EVALUATION = 'eval/segmentation/models'


def load_release(checkout: Path) -> tuple[Any, Any]:
    """Import the adapter's class and the module of the ViTs, without the evaluation's packages.

    Raises:
        FileNotFoundError: The folder is not such a checkout.
    """
    package = checkout / 'dinov3'
    if not (package / EVALUATION / 'backbone/dinov3_adapter.py').is_file():
        raise FileNotFoundError(f'{checkout} is no checkout of DINOv3 with its evaluation')
    sys.path.insert(0, str(checkout))
    for name in ('eval', 'eval/segmentation', EVALUATION, 'hub'):
        stub_module(f'dinov3.{name.replace("/", ".")}', package / name)
    models = f'dinov3.{EVALUATION.replace("/", ".")}'
    adapter = importlib.import_module(f'{models}.backbone.dinov3_adapter')
    return adapter.DINOv3_Adapter, importlib.import_module('dinov3.hub.backbones')


def build_released(release: tuple[Any, Any], size: str, *, biases: bool) -> nn.Module:
    """Build the released adapter with random values, in evaluation mode."""
    adapter, hub = release
    function, blocks = MODELS[size]
    vit = getattr(hub, function)(pretrained=False)
    fixed = {n: t.clone() for n, t in vit.state_dict().items() if 'periods' in n or 'mask' in n}
    with contextlib.redirect_stdout(io.StringIO()):
        released = adapter(vit, interaction_indexes=blocks).eval()
    randomise(released, seed=len(size))
    vit.load_state_dict(fixed, strict=False)
    if not biases:
        for name, parameter in vit.named_parameters():
            if name.endswith('qkv.bias'):
                nn.init.zeros_(parameter)
    return released


@torch.no_grad()
def print_table(release: tuple[Any, Any], sizes: Sequence[str]) -> float:
    """Print a row for each size and image and return the largest difference."""
    strides = ('stride 4', '8', '16', '32')
    print_header('size', 'attention biases', 'tensors', 'image', *strides, 'largest value')
    worst = 0.0
    for size in sizes:
        biases = size == sizes[0]
        released = build_released(release, size, biases=biases)
        state = released.state_dict()
        ours = build_from_release(state)
        for height, width in IMAGES:
            generator = torch.Generator().manual_seed(1)
            image = torch.randn(2, 3, height, width, generator=generator)
            theirs = list(released(image).values())
            differences = list(map(largest_difference, ours(image), theirs))
            worst = max(worst, *differences)
            cells = [f'{difference:.1e}' for difference in differences]
            row = (size, 'random' if biases else 'zero', len(state), f'{height}x{width}')
            print_row(*row, *cells, f'{largest_value(theirs):.1f}')
    return worst


def main() -> int:
    """Print the table; return 1 if a difference reaches the limit."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('checkout', type=Path, help='folder of the released repository')
    parser.add_argument('--sizes', nargs='+', choices=MODELS, default=['S', 'S+', 'B', 'L'])
    args = parser.parse_args()
    warnings.simplefilter('ignore')  # autocast for CUDA on a CPU
    return conclude([print_table(load_release(args.checkout), args.sizes)])


if __name__ == '__main__':
    sys.exit(main())
