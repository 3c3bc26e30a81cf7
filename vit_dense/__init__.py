"""vit_dense: timm Vision Transformers as backbones for OpenMMLab dense prediction.

Importing this package makes mmengine run on today's PyTorch (`vit_dense.compat`) and registers
the backbones, adapters, hooks and optimizer constructors in mmengine's root registry, so that
plain type names resolve from the mmseg and the mmdet scope. It imports neither mmseg nor mmdet:
`vit_dense.segmentation` and `vit_dense.detection` do. Where torch is not installed, it registers
nothing, and only `vit_dense.runtime` can be used, which runs exported files.
"""

from importlib.util import find_spec as _find_spec

from .version import __version__

_import_error: Exception | None = None

try:
    if _find_spec('torch'):
        from .compat import apply as _apply_compat

        _apply_compat()

        from . import adapters, backbones, engine  # they register with a patched mmengine

        if _find_spec('vit_dense.released'):  # optional: released ViT-Adapter, ViT-CoMer files
            from . import released as _released  # noqa: F401
except Exception as _error:
    from .cli import is_doctor_call as _is_doctor_call

    if not _is_doctor_call():
        raise
    _import_error = _error  # `vit-dense doctor` says what is broken

__all__ = ['__version__', 'adapters', 'backbones', 'engine']
