"""Read the config that a checkpoint carries, without running it."""

import ast
import math
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

_CONSTANTS = {'inf': math.inf, 'nan': math.nan}
_SEQUENCES: dict[type, Any] = {ast.List: list, ast.Tuple: tuple, ast.Set: set}
_CALLED: dict[str, Any] = {one.__name__: one for one in (dict, set, tuple, list, float)}


def config_of_checkpoint(checkpoint: Mapping[str, Any], path: str) -> Config:
    """Return the config in `checkpoint['meta']`, and import what it names in `custom_imports`.

    mmengine writes configs as Python source. Running it would run whatever a file from elsewhere
    contains, so only assignments of plain values are accepted.

    Args:
        checkpoint: What was read from the file.
        path: How to call it in an error.

    Raises:
        ValueError: It has no config, or one with other statements; or its modules are missing.
    """
    text = (checkpoint.get('meta') or {}).get('cfg')
    if not isinstance(text, str) or not text.strip():
        raise ValueError(
            f'{path} carries no config: name the config that trained it, too (CONFIG CHECKPOINT).'
        )
    try:
        values = dict(_assignment(statement) for statement in ast.parse(text).body)
    except (SyntaxError, ValueError, TypeError) as error:
        raise ValueError(
            f'The config in {path} is not made of plain values ({error}): name the config file, '
            'too (CONFIG CHECKPOINT).'
        ) from error
    config = Config(values)
    imports = config.get('custom_imports')
    if imports:
        try:
            import_modules_from_strings(**imports)
        except ImportError as error:
            raise ValueError(
                f'{path} needs {", ".join(imports["imports"])}: {error}. Run from the folder of '
                'these modules, or name the config file, too.'
            ) from error
    return config


def _assignment(statement: ast.stmt) -> tuple[str, Any]:
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target = statement.targets[0]
        if isinstance(target, ast.Name):
            return target.id, _value(statement.value)
    raise ValueError(f'line {statement.lineno}: only NAME = VALUE is read')


def _value(node: ast.expr) -> Any:
    """Return the value of a literal, or of a call of a container or of `float` with values."""
    if isinstance(node, ast.Name) and node.id in _CONSTANTS:
        return _CONSTANTS[node.id]
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return _SEQUENCES[type(node)](_value(one) for one in node.elts)
    if isinstance(node, ast.Dict):
        return {
            _value(key): _value(value)
            for key, value in zip(node.keys, node.values, strict=True)
            if key is not None
        }
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        kind = _CALLED.get(node.func.id)
        if kind is not None:
            named = {one.arg: _value(one.value) for one in node.keywords if one.arg is not None}
            return kind(*(_value(one) for one in node.args), **named)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    return ast.literal_eval(node)
