"""Unpack ADE20K, COCO, VOC2012 or Cityscapes as their sites deliver them, and verify the files."""

from argparse import ArgumentParser, Namespace

from .models import run_command
from .options import command_parser

_LEAVES = {
    'ade20k': 'vit_upernet_ade20k.py',
    'coco': 'vit_maskrcnn_coco.py',
    'voc': 'vit_upernet_voc12aug.py',
    'cityscapes': 'vit_upernet_cityscapes.py',
}


def build_parser() -> ArgumentParser:
    """Return the options."""
    parser = command_parser(__doc__)
    parser.add_argument('dataset', choices=sorted(_LEAVES))
    parser.add_argument('--source', required=True, help='folder of the archives, or unpacked')
    parser.add_argument('--out', default='data', help='folder of data sets (default: %(default)s)')
    return parser


def prepare(args: Namespace) -> None:
    """Print each step, and the command that trains on the result."""
    from pathlib import Path

    from ..data.prepare import RELEASES
    from ..data.prepare import prepare as unpack

    for line in unpack(RELEASES[args.dataset], Path(args.source), Path(args.out)):
        print(line, flush=True)
    print(f'vit-dense train vit_dense::{_LEAVES[args.dataset]}')


def main() -> int:
    """Run the command with the options in `sys.argv`, and return its exit code."""
    return run_command(prepare, build_parser().parse_args())
