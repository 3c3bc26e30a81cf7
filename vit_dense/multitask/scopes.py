"""Types that name their library: 'mmseg.EncoderDecoder'."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope, Registry

# The library, and the package of this project that registers types for it.
_PACKAGES = {'mmseg': 'vit_dense.segmentation', 'mmdet': 'vit_dense.detection'}


def scope_of(config: Mapping[str, Any], place: str) -> str:
    """Return the library of the `type` at `place`; raise `ValueError` if it names none."""
    kind = config.get('type')
    scope, _, name = str(kind or 'NAME').rpartition('.')
    if scope not in _PACKAGES:
        allowed = ' or '.join(repr(f'{one}.{name}') for one in _PACKAGES)
        raise ValueError(f'{place}.type={kind!r}: name the library of the task, too: {allowed}.')
    import_module(_PACKAGES[scope])
    return scope


def build_in_scope(registry: Registry, config: Mapping[str, Any], place: str) -> Any:
    """Build a config, and all that is inside of it, with the types of its library."""
    scope = scope_of(config, place)
    plain = ConfigDict({**config, 'type': config['type'].rpartition('.')[2]})
    with DefaultScope.overwrite_default_scope(scope):
        return registry.build(plain)
