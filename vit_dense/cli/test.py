"""Evaluate a checkpoint of a segmentation or detection model."""

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from .options import run_tool, tool_parser

if TYPE_CHECKING:
    from mmengine.config import Config


def build_parser() -> ArgumentParser:
    """Return the options; they are those of OpenMMLab's own tools."""
    parser = tool_parser(__doc__)
    parser.add_argument('checkpoint', help='weights')
    parser.add_argument(
        '--out',
        help='a .pkl file for all raw results, or (segmentation) a folder for predicted label maps',
    )
    parser.add_argument('--show', action='store_true', help='show results in a window')
    parser.add_argument('--show-dir', help='folder for pictures of all results')
    parser.add_argument(
        '--wait-time', type=float, default=2.0, help='seconds that --show shows each picture'
    )
    parser.add_argument(
        '--tta', action='store_true', help='test-time augmentation; in detection of boxes only'
    )
    return parser


def evaluate(config: 'Config', args: Namespace) -> None:
    """Evaluate, and print the metrics."""
    from ..apis import evaluate_model

    metrics = evaluate_model(
        config,
        args.checkpoint,
        out=args.out,
        show=args.show,
        show_dir=args.show_dir,
        wait_time=args.wait_time,
        tta=args.tta,
    )
    figures = '  '.join(f'{name} {value:.5g}' for name, value in metrics.items())
    print(figures or 'No figures: there was nothing to measure.')


def main() -> int:
    """Run the command with the options in `sys.argv`, and return its exit code."""
    return run_tool(build_parser(), evaluate)
