"""Import mmseg without mmdet, until a type needs it.

mmseg imports mmdet for the base classes of two heads, a third of all imports before a training of
segmentation. It works without, so it is imported while mmdet is hidden. The two heads are then
forgotten, and imported again, whole, when a registry or an import asks for them.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ['import_mmseg_models']

_HEADS_PACKAGE = 'mmseg.models.decode_heads'
_HEADS = {'Mask2FormerHead': 'mask2former_head', 'MaskFormerHead': 'maskformer_head'}


def import_mmseg_models() -> None:
    """Import `mmseg.models` without mmdet, if neither has been imported before."""
    if 'mmseg.models' in sys.modules or 'mmdet' in sys.modules:
        return
    with _hidden('mmdet'):
        packages = [import_module(name) for name in ('mmseg.models', _HEADS_PACKAGE)]
    registry = import_module('mmseg.registry').MODELS
    for head, module in _HEADS.items():
        del sys.modules[f'{_HEADS_PACKAGE}.{module}'], registry.module_dict[head]
        delattr(packages[1], module)
        for package in packages:
            delattr(package, head)
    for package in packages:
        package.__getattr__ = _loader(package)  # type: ignore[method-assign]  # PEP 562
    find: Callable[[str], Any] = registry.get

    def get(key: str) -> Any:
        head = key.rpartition('.')[2]
        if head in _HEADS:
            getattr(packages[1], head)
        return find(key)

    registry.get = get


def _loader(package: ModuleType) -> Callable[[str], Any]:
    """Return the function that finds the attributes which `package` lacks."""

    def load(name: str) -> Any:
        if name not in _HEADS:
            raise AttributeError(f'module {package.__name__!r} has no attribute {name!r}')
        value = getattr(import_module(f'{_HEADS_PACKAGE}.{_HEADS[name]}'), name)
        setattr(package, name, value)
        return value

    return load


@contextmanager
def _hidden(name: str) -> Iterator[None]:
    """Let `import name` fail as if it were not installed."""
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
