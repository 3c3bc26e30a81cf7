"""Print what a model costs: parameters, multiply-adds, memory and images per second."""

import json
import warnings
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from .models import add_model_options, run_command
from .options import add_cfg_options, command_parser, parsed_settings
from .tables import print_table

if TYPE_CHECKING:
    from ..apis.analysis import Analysis

_LABELS = {'backbone.vit': 'ViT', 'backbone': 'adapter'}


def build_parser() -> ArgumentParser:
    """Return the options."""
    parser = command_parser(__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--size',
        type=int,
        nargs='+',
        help='height and width of the images in pixels, or one number for both; default: that of '
        'the config',
    )
    parser.add_argument(
        '--batch-size', type=int, default=1, help='images in a batch, for memory and time'
    )
    parser.add_argument('--json', help='file for all figures: memory in bytes')
    add_cfg_options(parser)
    add_model_options(parser)
    return parser


def analyze(args: Namespace) -> None:
    """Analyze, and print the table."""
    from ..apis import load_config
    from ..apis.analysis import analyze_model

    config = load_config(args.config, cfg_options=parsed_settings(args))
    size = (args.size[0], args.size[-1]) if args.size else None
    with warnings.catch_warnings():
        # On losses and older names, which do not matter here.
        warnings.filterwarnings('ignore', module=r'mm(seg|det)\.')
        found = analyze_model(config, size=size, batch_size=args.batch_size, device=args.device)
    _print(found)
    if args.json:
        Path(args.json).write_text(json.dumps(asdict(found), indent=2), encoding='utf-8')


def _print(found: 'Analysis') -> None:
    has_vit = any(part.name == 'backbone.vit' for part in found.parts)
    rows = []
    for part in (*found.parts, found.total):
        counts = part.multiply_adds, part.training_multiply_adds
        rows.append(
            [
                _LABELS.get(part.name, part.name) if has_vit else part.name,
                f'{part.parameters / 1e6:.2f}',
                f'{part.trained / 1e6:.2f}',
                *(f'{count / 1e9:.2f}' for count in counts),
                _mebibytes(part.activations),
                _mebibytes(part.training_memory),
            ]
        )
    height, width = found.size
    print(f'{height} x {width} pixels, batch of {found.batch_size}, {found.device}')
    print('multiply-adds of one image; memory of a training step of the batch\n')
    print_table(
        [
            *('part', 'parameters M', 'trained M', 'multiply-adds G', 'in training G'),
            *('activations MiB', 'training memory MiB'),
        ],
        rows,
    )
    print(f'\n{found.images_per_second:.3g} images/s on {found.device}')
    print(f'optimizer: {found.optimizer or "none in the config, not counted"}')


def _mebibytes(count: int) -> str:
    return f'{count / 2**20:.1f}'


def main() -> int:
    """Run the command with the options in `sys.argv`, and return its exit code."""
    parser = build_parser()
    args = parser.parse_args()
    if args.size and (len(args.size) > 2 or min(args.size) < 1):
        parser.error('--size takes height and width in pixels, or one number for both')
    return run_command(analyze, args)
