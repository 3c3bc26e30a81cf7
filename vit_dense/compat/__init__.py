"""Adaptations that let mmengine, mmcv and mmseg run on pip wheels; each is inactive if not needed.

| module                 | problem                                                               |
|------------------------|-----------------------------------------------------------------------|
| `mmcv_ext`             | `mmcv-lite` has no compiled `mmcv._ext`: mmseg, mmdet do not import   |
| `safe_load`            | torch >= 2.6 rejects the files that mmengine writes                   |
| `checkpoint_sanitizer` | checkpoints hold mmengine's classes where plain numbers suffice       |
| `config_packages`      | `_base_ = 'mmseg::...'` fails with the maintained forks               |
| `config_paths`         | `_base_ = 'vit_dense::...'` requires a folder and adds a scope        |
| `config_text`          | configs are formatted by yapf: minutes for some hundred classes       |
| `config_variables`     | `crop_size = ...` in a config changes no pipeline that is inherited   |
| `console`              | 600 lines of environment and config are printed before the first loss |
| `deferred_imports`     | mmseg imports all of mmdet for two heads (called by the two tasks)    |
| `default_hooks`        | `default_hooks = dict(NAME=None)` fails for hooks that mmengine lacks |
| `checkpoint_writing`   | a kill or a full disk while a checkpoint is written loses older ones  |
| `resuming`             | `--resume` takes a damaged file, or starts anew over the old ones     |
| `http_backend`         | data sets over HTTP fail with `data_root`, and may wait without end   |
| `processes`            | several processes fail on machines without GPU                        |
| `sync_batch_norm`      | `SyncBatchNorm` fails on CPUs                                         |
| `train_loader`         | a resumed training reads all data up to its position                  |
"""

from . import (
    checkpoint_writing,
    config_packages,
    config_paths,
    config_text,
    config_variables,
    console,
    default_hooks,
    http_backend,
    mmcv_ext,
    processes,
    resuming,
    safe_load,
    sync_batch_norm,
    train_loader,
)
from .checkpoint_sanitizer import PlainHistoryHook

__all__ = ['PlainHistoryHook', 'apply']


def apply() -> None:
    """Install every adaptation; calling it again changes nothing.

    Imports none of mmcv, mmseg and mmdet, and works where they are not installed.
    """
    mmcv_ext.install()
    safe_load.install()
    config_packages.install()
    config_paths.install()
    config_text.install()
    config_variables.install()
    console.install()
    default_hooks.install()
    checkpoint_writing.install()
    resuming.install()
    http_backend.install()
    processes.install()
    sync_batch_norm.install()
    train_loader.install()
