"""Train a model from a config, such as configs/vit_upernet_demo.py."""

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from .options import run_tool, tool_parser

if TYPE_CHECKING:
    from mmengine.config import Config


def build_parser() -> ArgumentParser:
    """Return the options; they are those of OpenMMLab's own tools."""
    parser = tool_parser(__doc__)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='continue from this checkpoint; without a value, from the latest in --work-dir',
    )
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision (bfloat16)')
    parser.add_argument(
        '--amp-dtype',
        choices=['bfloat16', 'float16'],
        help='number format of --amp; float16 for GPUs without bfloat16',
    )
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the learning rate to the real batch'
    )
    parser.add_argument('--seed', type=int, help='seed of all random numbers')
    parser.add_argument('--deterministic', action='store_true', help='deterministic algorithms')
    parser.add_argument(
        '--track',
        choices=['tensorboard', 'mlflow', 'wandb'],
        help='record curves and pictures in this tracker, too',
    )
    return parser


def train(config: 'Config', args: Namespace) -> None:
    """Train."""
    from ..apis import train_model

    train_model(
        config,
        resume=args.resume,
        amp_dtype=args.amp_dtype or ('bfloat16' if args.amp else None),
        auto_scale_lr=args.auto_scale_lr,
        seed=args.seed,
        deterministic=args.deterministic,
        tracker=args.track,
    )


def main() -> int:
    """Run the command with the options in `sys.argv`, and return its exit code."""
    return run_tool(build_parser(), train)
