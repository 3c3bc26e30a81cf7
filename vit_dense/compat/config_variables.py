"""A variable that a config sets drives everything that inherited configs compute from it.

mmengine 0.10.7 evaluates an inherited file before the one that inherits: `crop_size = (640, 640)`
changes the variable, but not the pipelines that were computed from it. Here:

1. A file is evaluated as mmengine does, its bases first. Variables whose values differ from those
   of the bases are those that it sets. If no base is of this package, that is the result.
2. The bases are evaluated again with these values: after each statement of theirs, a variable that
   has another value gets the given one. So what follows is computed from it. Their own bases get
   the values, too, and the file itself is evaluated on the new ones.
3. A variable that the file computes from `_base_.NAME` is given in a third pass, so that it has the
   effects of the others; in the file, `_base_.NAME` stays what it inherits.

What the Runner reads (`model`, `train_dataloader`, ...) is only merged, and so are dicts that no
file of this package has, such as a `dataset` that several files of yours fill. `.json` and `.yaml`
files and `read_base` are left to mmengine.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.config import config as mmengine_config
from mmengine.config.utils import RemoveAssignFromAST

from .config_paths import is_ours

__all__ = ['drive', 'install', 'read_config', 'runner_keys']

_FURTHER_KEYS = {
    *('runner_type', 'sharding', 'model_wrapper_cfg', 'find_unused_parameters', 'sync_bn'),
    *('tta_model', 'tta_pipeline', 'auto_scale_lr', 'fp16', 'custom_imports', 'vis_backends'),
}
_DRIVE = ast.parse(f'__import__({__name__!r}, fromlist=["drive"]).drive(globals())').body[0]
_file2dict = Config._file2dict


@dataclass
class _File:
    """One evaluation of a config file."""

    given: dict[str, Any]  # values for its variables, from the configs that inherit it
    changed: dict[str, Any] = field(default_factory=dict)  # those it sets for what it inherits
    kept: dict[str, Any] = field(default_factory=dict)  # what `_base_.NAME` is for these
    inherited: dict[str, Any] | None = None
    ours: set[str] = field(default_factory=set)  # variables of the bases of this package


_current: ContextVar[_File | None] = ContextVar('current', default=None)


def install() -> None:
    """Let variables drive inherited files; calling it again changes nothing."""
    Config._file2dict = staticmethod(_evaluate)
    mmengine_config.RemoveAssignFromAST = _DriveVariables


def read_config(path: str, values: dict[str, Any]) -> Config:
    """Read a config file, evaluated with these values of its variables."""
    with _evaluating(_File(values), path):
        return Config.fromfile(path)


@cache
def runner_keys() -> set[str]:
    """Return the keys of a config that are no variables: the Runner or a command reads them."""
    from mmengine.runner import Runner

    return {*inspect.signature(Runner).parameters, *_FURTHER_KEYS}


def drive(scope: dict[str, Any]) -> None:
    """Put the given values into `scope`, the variables of the file that is evaluated."""
    file = _current.get()
    assert file is not None
    if file.inherited is None:
        scope['_base_'].update(file.kept)
        file.inherited = dict(scope['_base_'])
    for name in file.given.keys() & scope.keys():
        value = deepcopy(file.given[name])  # a statement may change a part of it
        listed = isinstance(value, list) and isinstance(scope[name], tuple)
        scope[name] = tuple(value) if listed else value


def _evaluate(filename: str, *args: Any, **kwargs: Any) -> tuple:
    """Evaluate a file, and again if it sets variables of files that it inherits."""
    outer = _current.get() or _File({})
    path = str(Path(filename).expanduser().absolute())
    file = _File({**outer.given, **outer.changed})
    with _evaluating(file, path):
        result = _file2dict(path, *args, **kwargs)
    for is_read in (False, True):
        inherited, text = file.inherited or {}, result[1]
        changed = {
            name: value
            for name, value in result[0].items()
            if name in inherited.keys() - runner_keys()
            and value != inherited[name]
            and (name in file.ours or not isinstance(value, dict))
            and is_read == bool(re.search(rf'_base_\W+{name}\b', text.rpartition(f'{path}\n')[2]))
        }
        if changed and file.ours:
            kept = {name: inherited[name] for name in changed}
            file = _File(file.given, {**file.changed, **changed}, kept)
            with _evaluating(file, path):
                result = _file2dict(path, *args, **kwargs)
    outer.ours |= file.ours | (result[0].keys() if is_ours(path) else set())
    return result


@contextmanager
def _evaluating(file: _File, path: str) -> Iterator[None]:
    token = _current.set(file)
    try:
        yield
    except (TypeError, LookupError, AttributeError, ArithmeticError) as error:
        if not file.given:
            raise
        given = ', '.join(f'{name}={value!r}' for name, value in file.given.items())
        raise ValueError(
            f'{path} cannot be evaluated with {given}: {error}. Give a value of the same form as '
            'in that file; or another name to what is not meant to change it.'
        ) from error
    finally:
        _current.reset(token)


class _DriveVariables(RemoveAssignFromAST):
    """Also call `drive` before each statement and after the last one."""

    def visit_Module(self, node: ast.Module) -> ast.Module:  # noqa: N802
        """Add the calls."""
        self.generic_visit(node)
        if _current.get() is not None:
            node.body = [*(one for part in node.body for one in (_DRIVE, part)), _DRIVE]
        return node
