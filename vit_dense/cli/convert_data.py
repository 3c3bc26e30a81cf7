"""Write the data of a config in the layout of ADE20K (masks) or COCO (boxes)."""

from argparse import ArgumentParser, Namespace

from .models import run_command
from .options import add_cfg_options, command_parser, parsed_settings


def build_parser() -> ArgumentParser:
    """Return the options."""
    parser = command_parser(__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('out', help='folder to write')
    add_cfg_options(parser)
    return parser


def convert(args: Namespace) -> None:
    """Print what was written."""
    from pathlib import Path

    from ..apis import load_config
    from ..apis.convert_data import convert_data

    config = load_config(args.config, cfg_options=parsed_settings(args))
    for line in convert_data(config, Path(args.out)):
        print(line, flush=True)


def main() -> int:
    """Run the command with the options in `sys.argv`, and return its exit code."""
    return run_command(convert, build_parser().parse_args())
