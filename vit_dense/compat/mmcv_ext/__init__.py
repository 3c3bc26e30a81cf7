"""A stand-in for `mmcv._ext`, the compiled module that `mmcv-lite` does not ship.

mmcv's Python side calls `mmcv._ext` for every op and asserts at import that each name exists;
without it neither `mmseg.models` nor `mmdet.models` imports. The stand-in has mmcv's
signatures over torchvision's kernels and plain PyTorch: outputs are written into the tensors that
mmcv passes in. Every other name resolves to a function that raises an error, which names the op and
explains how to get compiled mmcv.

The stand-in is found by a finder at the end of `sys.meta_path`, which Python uses only after its
own search for `mmcv._ext` has failed: compiled mmcv has precedence, and mmcv is not imported.
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
    """Make `import mmcv._ext` succeed wherever mmcv is installed without its compiled ops."""
    if not any(isinstance(finder, _ExtFinder) for finder in sys.meta_path):
        sys.meta_path.append(_ExtFinder())


class _ExtFinder(MetaPathFinder):
    """Finds `mmcv._ext` and no other module."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Return the spec of the stand-in; called if Python has found no compiled module."""
        return ModuleSpec(fullname, _ExtLoader()) if fullname == _NAME else None


class _ExtLoader(Loader):
    """Fills the module with the ops of this package and a fallback for all others."""

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave the creation of the module to Python."""

    def exec_module(self, module: ModuleType) -> None:
        """Add the ops; they are imported here, so that importing the core stays fast."""
        from . import boxes, deform, losses, roi

        for source in (boxes, deform, losses, roi):
            for name in source.__all__:
                setattr(module, name, getattr(source, name))
        module.__dict__['get_compiler_version'] = _not_compiled
        module.__dict__['get_compiling_cuda_version'] = _not_compiled
        module.__dict__['__getattr__'] = _missing_op


def _not_compiled() -> str:
    """Return the compiler version for mmcv's environment report."""
    return 'not compiled (mmcv-lite, ops supplied by vit_dense)'


def _missing_op(name: str) -> Callable[..., NoReturn]:
    if name.startswith('__'):
        # Names such as `__path__` and `__wrapped__` are looked up by the import system.
        raise AttributeError(f'module {_NAME!r} has no attribute {name!r}')

    def op(*args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(
            f'mmcv op {name!r} needs compiled mmcv: mmcv-lite ships no ops, and vit_dense '
            f'supplies no replacement for this one. Uninstall mmcv-lite and install compiled '
            f'mmcv for your torch and CUDA (`pip install -U openmim && mim install mmcv==2.1.0`, '
            f'or build it from source), or choose a model that does without this op.'
        )

    op.__name__ = name
    return op
