"""A stand-in for `mmcv._ext`, the compiled module that `mmcv-lite` does not ship.

mmcv's Python side calls `mmcv._ext` for every op and asserts at import that each name exists;
without it neither `mmseg.models` nor `mmdet.models` imports. The stand-in offers torchvision's
kernels under mmcv's signatures (`ops_*` beside this file); every name it does not offer resolves
to a callable that raises an error naming the op and how to get compiled mmcv.

The stand-in is found by a finder at the end of `sys.meta_path`: Python asks it only after its own
search for `mmcv._ext` has failed, so compiled mmcv always wins, and mmcv itself is not imported.
"""

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

__all__ = ['install']

_NAME = 'mmcv._ext'


def install() -> None:
    """Makes `import mmcv._ext` succeed wherever mmcv is installed without its compiled ops."""
    if not any(isinstance(finder, _ExtFinder) for finder in sys.meta_path):
        sys.meta_path.append(_ExtFinder())


class _ExtFinder(MetaPathFinder):
    """Answers for the one name `mmcv._ext`."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, _ExtLoader()) if fullname == _NAME else None


class _ExtLoader(Loader):
    """Fills the module with the ops supplied here and the fallback for all others."""

    def create_module(self, spec: ModuleSpec) -> None:
        """Leaves the creation of the module to Python."""

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__['__getattr__'] = _missing_op


def _missing_op(name: str) -> Callable[..., NoReturn]:
    if name.startswith('__'):
        # Dunder probes (`__path__`, `__wrapped__`, ...) are questions of the import system.
        raise AttributeError(f'module {_NAME!r} has no attribute {name!r}')

    def op(*args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(
            f'mmcv op {name!r} needs compiled mmcv; mmcv-lite is installed and vit_dense supplies '
            f'no replacement for it. Uninstall mmcv-lite and install compiled mmcv for your torch '
            f'and CUDA (`mim install mmcv==2.1.0`, or build it from source), or choose a model '
            f'that does without this op.'
        )

    op.__name__ = name
    return op
