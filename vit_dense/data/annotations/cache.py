"""Keep converted annotations in the user's cache folder until their files change."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Change this number when the converters give other values for the same files.
_VERSION = 1


def cached(key: Any, convert: Callable[[], Any]) -> Any:
    """Return the result of `convert`, from the cache if it was stored for the same key.

    The cache is `$XDG_CACHE_HOME/vit_dense/annotations`, by default below `~/.cache`. Damaged files
    in it are replaced; without write permission nothing is stored. Key and result are JSON values.
    """
    root = os.environ.get('XDG_CACHE_HOME') or os.path.join(os.path.expanduser('~'), '.cache')
    digest = hashlib.sha256(json.dumps([_VERSION, key]).encode()).hexdigest()
    path = Path(root, 'vit_dense', 'annotations', f'{digest}.json')
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_text(encoding='utf-8'))
    result = convert()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Renamed at the end: other processes see all of it or nothing.
        temporary = path.with_suffix(f'.{os.getpid()}')
        temporary.write_text(json.dumps(result), encoding='utf-8')
        temporary.replace(path)
    return result
