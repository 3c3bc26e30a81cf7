"""A stand-in for `mmcv._ext`, the compiled module that `mmcv-lite` does not ship.

mmcv's Python side calls `mmcv._ext` for every op and asserts at import that each name exists;
without it neither `mmseg.models` nor `mmdet.models` imports. The stand-in offers torchvision's
kernels and plain PyTorch under mmcv's signatures and keeps mmcv's meaning: outputs are written
into the tensors that mmcv passes in. Every name it does not offer resolves to a callable that
raises an error naming the op and how to get compiled mmcv.

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
        """Returns the stand-in's spec; Python has found no compiled module when it asks here."""
        return ModuleSpec(fullname, _ExtLoader()) if fullname == _NAME else None


class _ExtLoader(Loader):
    """Fills the module with the ops supplied here and the fallback for all others."""

    def create_module(self, spec: ModuleSpec) -> None:
        """Leaves the creation of the module to Python."""

    def exec_module(self, module: ModuleType) -> None:
        """Adds the ops; they are imported only now, so that core users do not pay for them."""
        from . import boxes, deform, losses, roi

        for source in (boxes, deform, losses, roi):
            for name in source.__all__:
                setattr(module, name, getattr(source, name))
        module.__dict__['get_compiler_version'] = _not_compiled
        module.__dict__['get_compiling_cuda_version'] = _not_compiled
        module.__dict__['__getattr__'] = _missing_op


def _not_compiled() -> str:
    """Answers mmcv's environment report, which asks with what the ops were compiled."""
    return 'not compiled (mmcv-lite, ops supplied by vit_dense)'


def _missing_op(name: str) -> Callable[..., NoReturn]:
    if name.startswith('__'):
        # Dunder probes (`__path__`, `__wrapped__`, ...) are questions of the import system.
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
