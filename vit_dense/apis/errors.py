"""End with the message of a user's mistake instead of the stack of the library that found it."""

import difflib
import importlib
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmengine import runner
from mmengine.registry import DATASETS, HOOKS, MODELS, TRANSFORMS, Registry
from mmengine.runner import BaseLoop
from torch.utils.data import DataLoader

from .lost_processes import lost_process

_PACKAGE = str(Path(__file__).resolve().parents[1]) + os.sep
_DEBUG_VARIABLE = 'VIT_DENSE_DEBUG'
# Worker processes of a data loader pass their error on as text, with its stack.
_WORKER_PREFIX = 'Caught ValueError in DataLoader worker process'
_USAGE_ERROR = 2
_USER_ERRORS = (ValueError, FileNotFoundError, ImportError)
_FAILED = 1
_WRONG_TYPE = (AssertionError, AttributeError, TypeError)
# Beginnings of mmengine's errors about a config, and what to say instead.
_FOREIGN = (
    (
        r'Cannot infer the rule for key (\S+),',
        'default_hooks.checkpoint.save_best names {0!r}, a figure of which mmengine cannot tell '
        "whether greater is better: correct the name, or set rule='greater' or 'less' beside it.",
    ),
    (
        r'(\w+), (\w+),? and (\w+) should be either all None',
        '{0}, {1} and {2} belong together: set all three, or all to None.',
    ),
    (r'Failed to get (\S*)$', 'The config has type={0!r}, which is not registered: correct it.'),
    (
        r"\[Errno 2\] No such file or directory: '(.+\.json)'",
        'The file {0} does not exist: correct ann_file in the evaluator or data set.',
    ),
    (
        r'end should be larger than begin, but got begin=(-?\d+), end=(-?\d+)',
        'A schedule in param_scheduler begins at step {0} and ends at step {1}: give it an end '
        'after its begin, within the training; a warm-up must be shorter than the training.',
    ),
    (
        'persistent_workers option needs num_workers > 0',
        'A data loader has num_workers=0 and persistent_workers=True: set persistent_workers=False '
        'beside it.',
    ),
    (
        "'MultiTaskDataset' object has no attribute 'full_init'",
        'No other data set can contain a MultiTaskDataset: wrap or repeat those in its datasets.',
    ),
    (r'(.+) can not be found\.$', 'The checkpoint {0} does not exist: correct its path.'),
    (
        r"'ConfigDict' object has no attribute '(\w+)'",
        'A dict of the config lacks {0!r}: add it, or correct a name that is misspelt.',
    ),
)
# mmengine's function that calls what a config names.
_BUILDER = 'build_from_cfg'
_SHOWN = 400  # characters of a dict in a message
# What a config must import to use the types of a task.
_TASKS = tuple(
    f'vit_dense.{one}' for one in ('segmentation', 'detection', 'pretraining', 'multitask')
)


def report_user_errors(work: Callable[[], object], *, debug: bool = False) -> int:
    """Run `work` and return a process exit code.

    In this package, a user's mistake raises `ValueError` with all that is needed to correct it.
    Such errors are written to stderr without their stack, and so are misspelt arguments and types
    of a config and values of a wrong type, whichever library found them. All other errors are
    raised, and so is every error with `debug` or the environment variable VIT_DENSE_DEBUG.

    Args:
        work: What to run.
        debug: Raise every error.

    Returns:
        0, 2 after a user's mistake, or 1 after the death of a data loader's worker or of another
        process, or a value that became NaN or infinite.
    """
    if debug or os.environ.get(_DEBUG_VARIABLE):
        work()
        return 0
    try:
        work()
    except FloatingPointError as error:
        sys.stderr.write(f'\nError: {error}\n')
        return _FAILED
    except Exception as error:
        if message := lost_process(error):
            sys.stderr.write(f'\nError: {message}\n')
            return _FAILED
        message = user_message(error)
        if message is None:
            raise
        sys.stderr.write(f'\nError: {message}\n(--debug shows where it was raised)\n')
        return _USAGE_ERROR
    return 0


def user_message(error: Exception) -> str | None:
    """Return what to tell the user about `error`, or None if it may not be a user's mistake."""
    text = str(error)
    if isinstance(error, TypeError):
        return _no_dict(error) or _misspelt_argument(error) or _wrong_type(error)
    if isinstance(error, KeyError):
        return _unknown_type(error)
    if text.startswith(_WORKER_PREFIX) and _PACKAGE in text:
        return text.rsplit('\nValueError: ', 1)[-1].strip()
    if isinstance(error, ImportError) and (absent := _absent_library(error)):
        return (
            f'{absent} is not installed, which this config needs: pip install "vit_dense[all]". '
            '`vit-dense doctor` shows what else is missing.'
        )
    for pattern, message in _FOREIGN:
        if found := re.match(pattern, text):
            return message.format(*found.groups())
    frames = traceback.extract_tb(error.__traceback__)
    is_ours = frames and os.path.abspath(frames[-1].filename).startswith(_PACKAGE)
    if is_ours and isinstance(error, _USER_ERRORS):
        return text
    return _wrong_type(error)


def _absent_library(error: BaseException | None) -> str | None:
    """Return the library of OpenMMLab whose absence led to `error`."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name in ('mmcv', 'mmseg', 'mmdet'):
            return error.name
        error = error.__cause__ or error.__context__
    return None


def _unknown_type(error: KeyError) -> str | None:
    """Name the missing import of a type of ours, or the registered types with similar names."""
    text = str(error.args[0])
    if lacks := re.match(
        r'`cfg` or `default_args` must contain the key "type", but got (.*)', text
    ):
        return f'A dict of the config lacks type=...: {lacks[1][:_SHOWN]}. Add or correct it.'
    found = re.match(r'(\w+) is not in the (?:\w+::)?(\w+) registry', text)
    if found is None:
        return None
    given, registry = found.groups()
    if task := _task_of(given):
        return (
            f'custom_imports lacks {task!r}, which registers type={given!r}: a list in a config '
            f'replaces the inherited one. Write custom_imports = dict(imports=[{task!r}, ...], '
            'allow_failed_imports=False), with your modules after it.'
        )
    known = {name for one in (MODELS, DATASETS, TRANSFORMS, HOOKS) for name in _names(one)}
    close = difflib.get_close_matches(given, sorted(known), n=3)
    hint = f' Did you mean {" or ".join(close)}?' if close else ''
    return (
        f'type={given!r} is registered as no {registry}.{hint} If it is yours, name its module in '
        f'custom_imports.'
    )


def _task_of(name: str) -> str | None:
    """Return the package that registers our type `name`, if it had not been imported before."""
    for task in _TASKS:
        if task in sys.modules:
            continue
        try:
            if name in importlib.import_module(task).__all__:
                return task
        except (ImportError, ValueError):
            continue  # without mmseg or mmdet the type cannot be used in any case
    return None


def _names(registry: Registry) -> set[str]:
    """Return all names registered in `registry` and in its children."""
    below = (_names(child) for child in registry.children.values())
    return set(registry.module_dict).union(*below)


def _no_dict(error: TypeError) -> str | None:
    """Name the value that stands in a config where `dict(type=...)` must."""
    innermost = [frame for frame, _ in traceback.walk_tb(error.__traceback__)][-1:]
    if [one.f_code.co_name for one in innermost] != [_BUILDER]:
        return None
    values = innermost[0].f_locals
    if str(error).startswith('type must be'):
        return f'The config has type={values["obj_type"]!r}, which is no name: correct it.'
    if 'cfg' not in str(error) or isinstance(given := values.get('cfg'), Mapping):
        return None
    registry = getattr(values.get('registry'), 'name', 'type')
    return f'The config has {given!r} where dict(type=...) of a {registry} must be.'


def _wrong_type(error: Exception) -> str | None:
    """Show the arguments that a constructor of ours, or an assertion of any, does not accept."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    built = [one.f_locals for one in frames if one.f_code.co_name == _BUILDER]
    kind = built[-1].get('obj_cls') if built else None
    if not inspect.isclass(kind):
        return None
    is_ours = kind.__module__.startswith(f'{Path(_PACKAGE).name}.')
    if not isinstance(error, _WRONG_TYPE if is_ours else AssertionError):
        return None
    reason = str(error).partition('\n')[0] or traceback.extract_tb(error.__traceback__)[-1].line
    given = ', '.join(f'{name}={value!r}' for name, value in built[-1]['args'].items())
    return f'{kind.__name__} does not accept its arguments: {reason}\nCorrect {given[:_SHOWN]}'


def _misspelt_argument(error: TypeError) -> str | None:
    """Name what a config configured, and the arguments with similar names."""
    found = re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    built = [one.f_locals.get('obj_cls') for one in frames if one.f_code.co_name == _BUILDER]
    kinds = [kind for kind in built if inspect.isclass(kind)]
    lacks = re.match(r'(\w+)\.__init__\(\) missing \d+ required \S+ arguments?: (.+)', str(error))
    if lacks and kinds:
        return f'{lacks[1]} lacks {lacks[2]}: add it in the config, or correct a misspelt name.'
    if found is None:
        return None
    caller, given = found.groups()
    loops = [one for frame in frames if isinstance(one := frame.f_locals.get('self'), BaseLoop)]
    if caller == DataLoader.__name__ and loops:
        name = type(loops[-1]).__name__.lower()
        split = next((one for one in ('train', 'val', 'test') if one in name), 'the')
        return _suggest(f'{split}_dataloader', given, [DataLoader])
    if not kinds:
        loop = getattr(runner, caller, None)
        return (
            _suggest('train_cfg', given, [loop]) if caller.endswith('TrainLoop') and loop else None
        )
    kind = kinds[-1]
    parents = list(kind.__mro__)
    if caller not in (one.__name__ for one in parents):
        return (
            f'{kind.__name__} passes {given!r} on to {caller}, which has no such argument. Correct '
            f'the name in the config of {kind.__name__}, or remove it.'
        )
    return _suggest(kind.__name__, given, parents)


def _suggest(owner: str, given: str, kinds: list[type]) -> str:
    """Return the message for the unknown argument `given` of the constructors of `kinds`."""
    taken = {
        name
        for kind in kinds
        for name, parameter in _arguments_of(kind).items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    } - {'self'}
    close = difflib.get_close_matches(given, sorted(taken), n=2)
    hint = f' Did you mean {" or ".join(close)}?' if close else ''
    return (
        f'{owner} has no argument {given!r}.{hint} It takes {", ".join(sorted(taken))}. '
        'Correct the name in the config; if it is inherited from _base_, put _delete_=True into '
        f'this dict and write it whole.'
    )


def _arguments_of(kind: type) -> Mapping[str, inspect.Parameter]:
    constructor: Any = kind.__init__  # type: ignore[misc]
    return inspect.signature(constructor).parameters
