"""Find the value of a config whose type is not that of the argument it is given to."""

import types
from collections.abc import Mapping, Sequence
from typing import Any, Union, get_args, get_origin, get_type_hints


def wrong_argument(kind: type, given: Mapping[str, Any]) -> str | None:
    """Return a message on the first value that does not fit its annotation, or None.

    Args:
        kind: A class of this package, whose annotations are complete.
        given: Arguments of its constructor.
    """
    constructor: Any = kind.__init__  # type: ignore[misc]
    hints = get_type_hints(constructor)
    for name, value in given.items():
        hint = hints.get(name, Any)
        if not _fits(value, hint):
            allowed = hint.__name__ if isinstance(hint, type) else str(hint)
            allowed = allowed.replace('collections.abc.', '').replace('typing.', '')
            return f'{kind.__name__}: {name}={value!r} must be of type {allowed}: correct it.'
    return None


def _fits(value: Any, hint: Any) -> bool:
    inner = get_args(hint)
    outer = get_origin(hint) or hint
    if outer in (Union, types.UnionType):
        return any(_fits(value, one) for one in inner)
    if not isinstance(outer, type):
        return True  # such as `Any`
    if outer in (int, float):
        return type(value) in (int, outer)
    if outer is not str and issubclass(outer, Sequence):  # a config may write a tuple as a list
        is_list = isinstance(value, Sequence) and not isinstance(value, str)
        return is_list and all(any(_fits(x, one) for one in inner or (Any,)) for x in value)
    return isinstance(value, outer)
