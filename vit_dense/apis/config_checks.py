"""Check a config before anything is built from it."""

import difflib
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

from ..compat.config_variables import runner_keys


def check_options(config: Config, options: dict[str, Any]) -> None:
    """Raise `ValueError` for an option such as `train_dataloder.batch_size`, which nothing reads.

    Args:
        config: The config that the options change.
        options: Dotted keys and the values to set.
    """
    known = {*config, *runner_keys()}
    for key in options:
        first = key.partition('.')[0]
        if first not in known:
            close = difflib.get_close_matches(first, sorted(known), n=3)
            hint = f'Did you mean {" or ".join(close)}? ' if close else ''
            raise ValueError(
                f'--cfg-options {key}: the config has no {first!r}. {hint}It has: '
                f'{", ".join(sorted(config))}.'
            )


def check_head_inputs(config: Config) -> None:
    """Raise `ValueError` if `in_channels` and `in_index` of a head name different numbers of maps.

    mmseg's heads only assert it.
    """
    for name, head in _heads(config):
        channels, index = head.get('in_channels'), head.get('in_index')
        if channels is None or index is None:
            continue
        if _count(channels) != _count(index):
            raise ValueError(
                f'{name}.in_channels={channels} and in_index={index} must name the same maps: give '
                'one number in both, or two lists of the same length, with the number and the '
                'channels of each map.'
            )


def _heads(config: Config) -> Iterator[tuple[str, Any]]:
    model = config.get('model') or {}
    while 'module' in model:
        model = model['module']
    tasks = {f'tasks.{name}.': one for name, one in model.get('tasks', {}).items()}
    for place, one in (tasks or {'': model}).items():
        for name in ('decode_head', 'auxiliary_head'):
            found = one.get(name) or []
            if isinstance(found, dict):
                yield f'{place}{name}', found
            else:
                yield from ((f'{place}{name}[{n}]', head) for n, head in enumerate(found))


def _count(value: Any) -> int | None:
    """Return the length of a list, and None for a number."""
    return len(value) if isinstance(value, list | tuple) else None
