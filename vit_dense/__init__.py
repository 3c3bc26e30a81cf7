"""vit_dense: timm Vision Transformers as backbones for OpenMMLab dense prediction.

Importing this package makes mmengine run on today's PyTorch (`vit_dense.compat`) and registers
the backbones, adapters, hooks and optimizer constructors in mmengine's root registry, so that
plain type names resolve from the mmseg and the mmdet scope. It imports neither mmseg nor mmdet:
`vit_dense.segmentation` and `vit_dense.detection` do. Where torch is not installed, it registers
nothing, and only `vit_dense.runtime` can be used, which runs exported files.

Only the project's own commands import it without this: they parse their options first, and call
`register` when the work begins, so that `--help` does not wait for PyTorch.
"""

from importlib.util import find_spec as _find_spec

from .cli import is_own_command as _is_own_command
from .version import __version__


def register() -> None:
    """Apply `vit_dense.compat` and register all types, as the import does; may be repeated."""
    if not _find_spec('torch'):
        return
    from .compat import apply

    apply()

    from . import adapters, backbones, engine  # noqa: F401  # with a patched mmengine

    if _find_spec('vit_dense.released'):  # optional: released ViT-Adapter, ViT-CoMer files
        from . import released  # noqa: F401


if not _is_own_command():
    register()

__all__ = ['__version__', 'adapters', 'backbones', 'engine', 'register']
