"""Rank timm models on the data of a config by a linear probe on their frozen maps."""

import json
import re
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

from .models import add_model_options, run_command
from .options import add_cfg_options, command_parser, parsed_settings
from .tables import print_table

if TYPE_CHECKING:
    from ..apis.probe import ProbeResult

_REASON = 300  # characters
_PICTURES = ('.png', '.svg', '.pdf')


def build_parser() -> ArgumentParser:
    """Return the options."""
    parser = command_parser(__doc__)
    parser.add_argument('config', help='config file, for its training and validation data')
    models = "timm's name, for its pretrained weights; or NAME=FILE, NAME=random"
    parser.add_argument('--models', nargs='+', required=True, metavar='MODEL', help=models)
    parser.add_argument('--images', type=int, default=200, help='number of images (default: 200)')
    parser.add_argument('--size', type=int, default=448, help='longest edge in px (default: 448)')
    parser.add_argument('--out', help=f'the picture to write: {", ".join(_PICTURES)}')
    parser.add_argument('--json', help='file for all figures: memory in bytes')
    add_cfg_options(parser)
    add_model_options(parser)
    return parser


def probe(args: Namespace) -> int:
    """Probe all models, print the table, and return 1 if none has a score."""
    from ..apis import load_config
    from ..apis.plots import draw_probe
    from ..apis.probe import probe_model
    from ..apis.probe_data import load_probe_data

    for file in filter(None, (args.out, args.json)):  # before minutes of work
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    config = load_config(args.config, cfg_options=parsed_settings(args))
    data = load_probe_data(config, images=args.images, size=args.size)
    metric = 'mIoU' if data.val[0].boxes is None else 'balanced accuracy'
    results, failed = [], {}
    for number, model in enumerate(args.models, 1):
        try:
            results.append(probe_model(data, model, device=args.device))
            outcome = f'{metric} {results[-1].score:.1f} %'
        except (ValueError, OSError, RuntimeError) as error:  # the others go on
            failed[model], outcome = shorten(str(error), _REASON), 'no score, see below'
        sys.stderr.write(f'{number}/{len(args.models)} {model}: {outcome}\n')
    ranked = sorted(results, key=lambda one: -one.score)
    if ranked:
        print(f'{len(data.train)} training and {len(data.val)} validation images\n')
        shown = [one._replace(model=re.sub('=.*/', '=', one.model)) for one in ranked]
        _print(shown, metric)
        if args.out:
            draw_probe(shown, metric, args.out)
            print(f'\npicture: {args.out}')
    for model, reason in failed.items():
        print(f'no score: {model}: {reason}')
    if args.json:
        content = {'metric': metric, 'models': [one._asdict() for one in ranked], 'failed': failed}
        Path(args.json).write_text(json.dumps(content), encoding='utf-8')
    return 0 if ranked else 1


def _print(ranked: 'list[ProbeResult]', metric: str) -> None:
    header = ['model', f'{metric} %', '95 % interval', 'ms/image', 'parameters M']
    rows = []
    for one in ranked:
        score = f'{one.score:.1f}{"~" if one.is_tied_with(ranked[0]) else " "}'
        interval = '{:.1f} to {:.1f}'.format(*one.interval)
        memory = f'{one.training_memory / 2**20:.0f}'
        cells = [one.model, score, interval, f'{one.ms:.0f}', f'{one.parameters / 1e6:.1f}']
        rows.append([*cells, memory, one.licence])
    print_table([*header, 'training memory MiB', 'licence'], rows)
    print('\n~: the best, or not told apart from it by these validation images (95 %)')


def main() -> int:
    """Run the command with the options in `sys.argv`, and return its exit code."""
    parser = build_parser()
    args = parser.parse_args()
    if args.out and Path(args.out).suffix not in _PICTURES:
        parser.error(f'--out {args.out}: the suffix must be one of {", ".join(_PICTURES)}')
    return run_command(probe, args)
