"""A user's mistake ends in its message, not in forty lines of somebody else's stack."""

import difflib
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmengine.registry import DATASETS, HOOKS, MODELS, TRANSFORMS, Registry

_PACKAGE = str(Path(__file__).resolve().parents[1]) + os.sep
_DEBUG_VARIABLE = 'VIT_DENSE_DEBUG'
# Worker processes of a data loader hand over their error as text, the stack included.
_WORKER_PREFIX = 'Caught ValueError in DataLoader worker process'
_USAGE_ERROR = 2
# mmengine's function that calls what a config names.
_BUILDER = 'build_from_cfg'


def run_cleanly(work: Callable[[], object], *, debug: bool = False) -> int:
    """Runs `work` and returns a process exit code.

    The house rule is that a user's mistake raises `ValueError` with all that is needed to correct
    it. Such errors, raised by this package's own code, are written to stderr as they are, and so is
    a misspelt argument in a config, whoever met it; anything else, and everything with `debug` or
    the environment variable VIT_DENSE_DEBUG, keeps its stack.

    Args:
        work: What to do.
        debug: Let every error through.

    Returns:
        0, or 2 after a user's mistake.
    """
    if debug or os.environ.get(_DEBUG_VARIABLE):
        work()
        return 0
    try:
        work()
    except (ValueError, FileNotFoundError, TypeError, ImportError, KeyError) as error:
        message = user_message(error)
        if message is None:
            raise
        sys.stderr.write(f'\nError: {message}\n(--debug shows where it was raised)\n')
        return _USAGE_ERROR
    return 0


def user_message(error: Exception) -> str | None:
    """Returns what to tell the user about `error`, or None if it is not known to be theirs."""
    text = str(error)
    if isinstance(error, TypeError):
        return _misspelt_argument(error)
    if isinstance(error, KeyError):
        return _unknown_type(error)
    if text.startswith(_WORKER_PREFIX) and _PACKAGE in text:
        return text.rsplit('\nValueError: ', 1)[-1].strip()
    frames = traceback.extract_tb(error.__traceback__)
    if frames and os.path.abspath(frames[-1].filename).startswith(_PACKAGE):
        return text
    return None


def _unknown_type(error: KeyError) -> str | None:
    """Names the registered types that are nearest to one that a config asked for."""
    found = re.match(r'(\w+) is not in the (?:\w+::)?(\w+) registry', str(error.args[0]))
    if found is None:
        return None
    given, registry = found.groups()
    known = {name for one in (MODELS, DATASETS, TRANSFORMS, HOOKS) for name in _names(one)}
    close = difflib.get_close_matches(given, sorted(known), n=3)
    hint = f' Did you mean {" or ".join(close)}?' if close else ''
    return (
        f'type={given!r} is registered as no {registry}.{hint} If it is yours, name its module in '
        f'custom_imports.'
    )


def _names(registry: Registry) -> set[str]:
    """What is registered here and in the scopes below."""
    below = (_names(child) for child in registry.children.values())
    return set(registry.module_dict).union(*below)


def _misspelt_argument(error: TypeError) -> str | None:
    """Names the class that a config asked for, and the nearest of its arguments."""
    found = re.search(r"__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    built = [one.f_locals.get('obj_cls') for one in frames if one.f_code.co_name == _BUILDER]
    kinds = [kind for kind in built if inspect.isclass(kind)]
    if found is None or not kinds:
        return None
    given, kind = found[1], kinds[-1]
    taken = {
        name
        for parent in kind.__mro__
        for name, parameter in _arguments_of(parent).items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    } - {'self'}
    close = difflib.get_close_matches(given, sorted(taken), n=2)
    hint = f' Did you mean {" or ".join(close)}?' if close else ''
    return (
        f'{kind.__name__} has no argument {given!r}.{hint} It takes {", ".join(sorted(taken))}. '
        'Correct the name in the config; if it is inherited from _base_, put _delete_=True into '
        f'this dict and write it whole.'
    )


def _arguments_of(kind: type) -> Mapping[str, inspect.Parameter]:
    constructor: Any = kind.__init__  # type: ignore[misc]
    return inspect.signature(constructor).parameters
