"""Export weights, LoRA merged: `python tools/export_checkpoint.py CONFIG CHECKPOINT OUT`."""

import sys
from argparse import ArgumentParser, Namespace

from mmengine.config import Config

from vit_dense.apis import export_checkpoint, run_tool, tool_parser


def build_parser() -> ArgumentParser:
    """Returns the options."""
    parser = tool_parser(__doc__)
    parser.add_argument('checkpoint', help='what training wrote')
    parser.add_argument('out', help='the file to write')
    return parser


def export(config: Config, args: Namespace) -> None:
    """Exports, and prints what was done."""
    done = export_checkpoint(config, args.checkpoint, args.out)
    print(f'{args.out}: {done["tensors"]} tensors, {done["merged"]} LoRA corrections merged')
    if done['merged']:
        print("Use it with the same config and vit.type='TimmViT'")


if __name__ == '__main__':
    sys.exit(run_tool(build_parser(), export))
