"""Write configs as Python source in milliseconds.

mmengine 0.10.7 formats `Config.pretty_text` with yapf, at every start and with every checkpoint:
minutes for some hundred classes. This text has the same statements, keys in the same order, and
reads back to the same config.
"""

import ast
import keyword
import math
from typing import Any

from mmengine.config import Config

__all__ = ['install']

_WIDTH = 100
_INDENT = '    '


def install() -> None:
    """Replace `Config.pretty_text`, which `Config.dump`, checkpoints and loggers use."""
    Config.pretty_text = property(_pretty_text)


def _pretty_text(self: Config) -> str:
    """Return the config as assignments, which `Config.fromstring` reads.

    Raises:
        SyntaxError: It holds an object that has no form in Python source.
    """
    items = sorted(self.to_dict().items(), key=lambda item: str(item[0]))
    text = ''.join(f'{key} = {_source(value)}\n' for key, value in items)
    try:
        ast.parse(text)
    except SyntaxError as error:
        raise SyntaxError(
            f'The config has a value that cannot be written: {error.text or ""}'
        ) from error
    return text


def _source(value: Any, indent: str = '', name: str = '') -> str:
    """Return the source of `value`, on one line if it fits behind `name` at this indent."""
    if isinstance(value, dict):
        named = all(_is_argument(key) for key in value)
        left, right = ('dict(', ')') if named else ('{', '}')
        ordered = sorted(value.items(), key=lambda item: str(item[0]))
        items = [(f'{key}=' if named else f'{key!r}: ', one) for key, one in ordered]
    elif isinstance(value, list | tuple):
        left, right = ('[', ']') if isinstance(value, list) else ('(', ')')
        items = [('', one) for one in value]
    else:
        return _plain_source(value)
    parts = [key + _source(one, indent + _INDENT, key) for key, one in items]
    line = left + ', '.join(parts) + (',' if left == '(' and len(parts) == 1 else '') + right
    if len(indent) + len(name) + len(line) < _WIDTH and '\n' not in line:
        return line
    return '\n'.join([left, *(f'{indent}{_INDENT}{part},' for part in parts), indent + right])


def _plain_source(value: Any) -> str:
    if isinstance(value, str | bytes):
        return repr(value)
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    if isinstance(value, type):
        return repr(f'{value.__module__}.{value.__qualname__}')  # which registries resolve
    return str(value)


def _is_argument(key: Any) -> bool:
    return isinstance(key, str) and key.isidentifier() and not keyword.iskeyword(key)
