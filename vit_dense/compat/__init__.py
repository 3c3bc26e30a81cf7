"""What plain pip wheels lack, supplied: one small remedy per gap, inactive beside the real thing.

| remedy            | gap                                                                        |
|-------------------|----------------------------------------------------------------------------|
| `mmcv_ext`        | `mmcv-lite` has no compiled `mmcv._ext`, so mmseg and mmdet do not import  |
| `safe_load`       | torch >= 2.6 refuses the files that mmengine writes; none is ever trusted  |
| `plain_history`   | checkpoints hold mmengine's own classes where plain numbers would do       |
| `config_packages` | `_base_ = 'mmseg::...'` beside the maintained forks; our row in the table  |
| `own_configs`     | `_base_ = 'vit_dense::...'` without a folder and without a registry scope  |
| `default_hooks`   | `default_hooks = dict(NAME=None)` removes any hook, not six names only     |
"""

from . import config_packages, default_hooks, mmcv_ext, own_configs, safe_load
from .plain_history import PlainHistoryHook

__all__ = ['PlainHistoryHook', 'apply']


def apply() -> None:
    """Installs every remedy; calling it again changes nothing.

    Imports none of mmcv, mmseg and mmdet, and works where they are not installed.
    """
    mmcv_ext.install()
    safe_load.install()
    config_packages.install()
    own_configs.install()
    default_hooks.install()
