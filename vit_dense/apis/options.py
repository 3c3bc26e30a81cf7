"""Options that training and evaluation share, named as in OpenMMLab's tools."""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable

from mmengine.config import Config, DictAction

from .config import load_config
from .errors import report_user_errors


def tool_parser(description: str | None) -> ArgumentParser:
    """Return a parser of the config and of the options that all tools share."""
    parser = ArgumentParser(description=description)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder for logs and all that the tool writes')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='settings to override: key=value ...'
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    parser.add_argument('--debug', action='store_true', help='print the stack trace of every error')
    return parser


def run_tool(parser: ArgumentParser, work: Callable[[Config, Namespace], object]) -> int:
    """Parse the options, load the config and pass both to `work`.

    Args:
        parser: From `tool_parser`, with the tool's own options.
        work: What the tool does.

    Returns:
        The exit code of `report_user_errors`.
    """
    args = parser.parse_args()
    # Old launchers pass an option, torchrun sets this variable, and mmengine reads the variable.
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))

    def job() -> None:
        config = load_config(
            args.config,
            work_dir=args.work_dir,
            cfg_options=args.cfg_options,
            launcher=args.launcher,
        )
        work(config, args)

    return report_user_errors(job, debug=args.debug)
