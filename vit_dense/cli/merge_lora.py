"""Write the weights of a training checkpoint alone, with LoRA merged into them."""

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from .options import run_tool, tool_parser

if TYPE_CHECKING:
    from mmengine.config import Config


def build_parser() -> ArgumentParser:
    """Return the options."""
    parser = tool_parser(__doc__)
    parser.add_argument('checkpoint', help='what training wrote')
    parser.add_argument('out', help='the file to write')
    return parser


def export(config: 'Config', args: Namespace) -> None:
    """Export, and print what was done."""
    from ..apis import merge_checkpoint

    done = merge_checkpoint(config, args.checkpoint, args.out)
    print(f'{args.out}: {done["tensors"]} tensors, {done["merged"]} LoRA corrections merged')
    if done['merged']:
        print("Use it with the same config and vit.type='TimmViT'")


def main() -> int:
    """Run the command with the options in `sys.argv`, and return its exit code."""
    return run_tool(build_parser(), export)
