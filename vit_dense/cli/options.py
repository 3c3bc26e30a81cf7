"""Options that training and evaluation share, named as in OpenMMLab's tools."""

import ast
import contextlib
import os
import re
import signal
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmengine.config import Config


def command_parser(description: str | None, **options: Any) -> ArgumentParser:
    """Return a parser with the option that all commands share."""
    parser = ArgumentParser(description=description, **options)
    parser.add_argument('--debug', action='store_true', help='print the stack trace of every error')
    return parser


def tool_parser(description: str | None) -> ArgumentParser:
    """Return a parser of the config and of the options that training and evaluation share."""
    parser = command_parser(description)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder for logs and all that the tool writes')
    add_cfg_options(parser)
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    return parser


def add_cfg_options(parser: ArgumentParser) -> None:
    """Add the option for settings of the config; `parsed_settings` converts them."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        type=_setting,
        metavar='KEY=VALUE',
        help='settings to override: key=value ...',
    )


def _setting(text: str) -> str:
    if not text.partition('=')[0].strip() or '=' not in text:
        raise ArgumentTypeError(f'{text!r}: write key=value, such as train_cfg.max_iters=100')
    return text


def parsed_settings(args: Namespace) -> dict[str, Any]:
    """Return the values of --cfg-options, as mmengine reads them, but with their spaces."""
    return dict(map(_parse_setting, args.cfg_options or []))


def _parse_setting(setting: str) -> tuple[str, Any]:
    """Return key and value; raise `ValueError` for lists that mmengine would read wrongly."""
    from mmengine.config import DictAction

    key, _, text = setting.partition('=')
    value = text.strip()
    is_open = value[:1] in ('[', '(', '{')
    with contextlib.suppress(ValueError, SyntaxError):  # such as [true, none]
        if value[:1] in ('"', "'"):
            first, *others = ast.literal_eval(f'[{value}]')
            return key, [first, *others] if others else first
        if is_open and ' ' in value:
            return key, ast.literal_eval(value)
    # Spaces beside these do not matter in a list.
    marks = r'[][(){},]' if is_open else ','
    is_list = is_open or ',' in value
    if ' ' in (re.sub(rf'\s*({marks})\s*', r'\1', value) if is_list else value):
        if is_list:
            raise ValueError(
                f'--cfg-options {setting}: in a list with spaces, put every text in quotes, as in '
                f'\'{key}=["a b", "c"]\', and write True, False and None'
            )
        return key, value
    found = Namespace()
    try:
        DictAction([], 'settings')(ArgumentParser(), found, [setting])
    except (AssertionError, RecursionError):  # a bracket without its other half, or dict(...)
        raise ValueError(
            f'--cfg-options {setting}: the brackets cannot be read; write lists as [1,2], and each '
            'value of a dict as a setting of its own'
        ) from None
    return key, found.settings[key]


def run_tool(parser: ArgumentParser, work: 'Callable[[Config, Namespace], object]') -> int:
    """Parse the options, load the config and pass both to `work`.

    Args:
        parser: From `tool_parser`, with the tool's own options.
        work: What the tool does.

    Returns:
        The exit code of `report_user_errors`; 130 after Ctrl-C.
    """
    args = parser.parse_args()
    # Old launchers pass an option, torchrun sets this variable, and mmengine reads the variable.
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))

    def job() -> None:
        from ..apis import load_config

        config = load_config(
            args.config,
            work_dir=args.work_dir,
            cfg_options=parsed_settings(args),
            launcher=args.launcher,
        )
        work(config, args)

    try:
        from ..apis import report_user_errors

        return report_user_errors(job, debug=args.debug)
    except KeyboardInterrupt:
        if args.debug:
            raise
        sys.stderr.write('\nInterrupted.\n')
        return 128 + signal.SIGINT
