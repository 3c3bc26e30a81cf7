"""Warn of a variable that a config file sets and that differs from what is used.

Stock tools evaluate an inherited file without the variables of the file that inherits it.
"""

import logging
import os
import re
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

# A variable, and the part of the config that has its value under a key.
_PLACES = [
    ('crop_size', 'train_dataloader', 'crop_size'),
    ('crop_size', 'model', 'crop_size'),
    ('crop_size', 'model', 'size'),
    ('data_root', 'train_dataloader', 'data_root'),
    ('num_classes', 'model', 'num_classes'),
]


def check_variables(config: Config) -> None:
    """Warn of variables that the config file sets, and that have no effect."""
    source = config.text.rpartition(f'{os.path.abspath(config.filename or "")}\n')[2]
    for name, part, key in _PLACES:
        if name not in config or not re.search(rf'^{name} *=', source, re.MULTILINE):
            continue
        found = list(_values(config.get(part), key, part))
        if found and all(_listed(value) != _listed(config[name]) for _, value in found):
            print_log(
                f'The config sets {name}={config[name]!r}, but {found[0][0]}={found[0][1]!r} '
                'counts: set that, too. With `import vit_dense` before the config is read, or '
                'with vit-dense, a variable changes what inherited configs compute from it.',
                logger='current',
                level=logging.WARNING,
            )


def _values(value: Any, key: str, place: str) -> Iterator[tuple[str, Any]]:
    """Yield the places and values of all entries `key` in `value`."""
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        for name, one in value.items():
            if name == key:
                yield f'{place}.{name}', one
            yield from _values(one, key, f'{place}.{name}')


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
