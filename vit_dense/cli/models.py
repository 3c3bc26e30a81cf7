"""Name and load the model of a command: checkpoint, config and checkpoint, or exported file."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..runtime.predictor import Predictor

_CHECKPOINTS = ('.pth', '.pt')
_EXPORTED = ('.onnx', '.xml')
_USAGE_ERROR = 2


def add_model_options(parser: ArgumentParser) -> None:
    """Add the options of every command that uses a model."""
    parser.add_argument(
        '--device', default='auto', help='cpu, cuda or cuda:N (default: a GPU if there is one)'
    )


def split_model(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split positional arguments into those of the model and the rest.

    A checkpoint or an exported file stands alone; after a config, a checkpoint follows.
    """
    is_config = Path(names[0]).suffix not in _CHECKPOINTS + _EXPORTED
    has_checkpoint = is_config and len(names) > 1 and Path(names[1]).suffix in _CHECKPOINTS
    count = 2 if has_checkpoint else 1
    return list(names[:count]), list(names[count:])


def open_model(names: Sequence[str], device: str = 'auto') -> 'Predictor':
    """Load the model that `split_model` found.

    Raises:
        ValueError: It cannot be loaded; see `vit_dense.apis.load_model`.
    """
    if Path(names[0]).suffix in _EXPORTED:
        from ..runtime import load_exported

        if len(names) > 1:
            raise ValueError(f'{names[0]} has its weights: leave {names[1]} out.')
        if device not in ('auto', 'cpu'):
            raise ValueError(f'--device {device}: exported files run on the CPU. Leave it out.')
        return load_exported(names[0])
    from ..apis import load_model

    return load_model(names[0], names[1] if len(names) > 1 else None, device)


def run_command(work: Callable[[Namespace], int | None], args: Namespace) -> int:
    """Return the exit code that `work` returns, or 0; report users' mistakes in a few lines.

    Exported files run without PyTorch and mmengine, which are imported for their errors alone, and
    only where they are installed.
    """
    try:
        return work(args) or 0
    except Exception as error:
        caught = error
        if find_spec('torch') is not None:
            from ..apis import report_user_errors

            def fail() -> None:
                raise caught

            return report_user_errors(fail, debug=args.debug)
        if args.debug or not isinstance(error, ValueError):
            raise
        sys.stderr.write(f'\nError: {error}\n(--debug shows where it was raised)\n')
        return _USAGE_ERROR
