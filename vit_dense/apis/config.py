"""Reads a config the way OpenMMLab's own tools do."""

import difflib
import inspect
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import RUNNERS
from mmengine.runner import Runner


def load_config(
    path: str,
    *,
    work_dir: str | None = None,
    cfg_options: dict[str, Any] | None = None,
    launcher: str = 'none',
) -> Config:
    """Reads a config file, applies the options, imports what it names in `custom_imports`.

    Args:
        path: The config file.
        work_dir: Folder for logs and checkpoints. Default: the config's own `work_dir`, else
            `work_dirs/` and the config's name.
        cfg_options: Dotted keys and the values to set.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.

    Raises:
        ValueError: If the file or one that it inherits does not exist, with the nearest names
            beside it, or if an option sets what no config has.
    """
    if not Path(path).is_file():
        raise ValueError(f'Config not found: {path}.{_nearest(path)}')
    config = _read(path)
    config.launcher = launcher
    if cfg_options:
        _check_options(config, cfg_options)
        config.merge_from_dict(cfg_options)
    if work_dir is not None:
        config.work_dir = work_dir
    elif config.get('work_dir') is None:
        config.work_dir = str(Path('work_dirs') / Path(path).stem)
    return config


def _read(path: str) -> Config:
    try:
        return Config.fromfile(path)
    except FileNotFoundError as error:
        absent = str(error.filename or error)
        raise ValueError(
            f'{path} inherits a config that does not exist: {absent}. A name in _base_ starts in '
            'the folder of the file that names it; for a config of this package write _base_ = '
            "'vit_dense::NAME', e.g. 'vit_dense::vit_upernet_ade20k.py'."
        ) from error


def _check_options(config: Config, options: dict[str, Any]) -> None:
    """Refuses `train_dataloder.batch_size=2`, which would set what nobody reads."""
    known = {*config, *inspect.signature(Runner).parameters, 'runner_type', 'tta_model'}
    known |= {'tta_pipeline', 'auto_scale_lr', 'fp16'}
    for key in options:
        first = key.partition('.')[0]
        if first not in known:
            close = difflib.get_close_matches(first, sorted(known), n=3)
            hint = f'Did you mean {" or ".join(close)}? ' if close else ''
            raise ValueError(
                f'--cfg-options {key}: the config has no {first!r}. {hint}It has: '
                f'{", ".join(sorted(config))}.'
            )


def build_runner(config: Config) -> Runner:
    """Builds the runner that the config names, mmengine's by default."""
    if 'runner_type' in config:
        return RUNNERS.build(config)
    return Runner.from_cfg(config)


def require_file(path: str, what: str) -> None:
    """Raises `ValueError` with the nearest names where the file `path` does not exist.

    Addresses (`https://...`, `open-mmlab://...`) are left to mmengine.
    """
    if '://' not in path and not Path(path).is_file():
        raise ValueError(f'{what} not found: {path}.{_nearest(path)}')


def innermost_dataset(dataset: ConfigDict) -> ConfigDict:
    """Returns the config of the data set inside wrappers such as repetition."""
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    return dataset


def _nearest(path: str) -> str:
    folder = Path(path).parent.resolve()
    if not folder.is_dir():
        return f' The folder {folder} does not exist either.'
    names = [entry.name for entry in folder.iterdir() if entry.suffix == Path(path).suffix]
    close = difflib.get_close_matches(Path(path).name, names, n=3, cutoff=0.5)
    found = close or sorted(names)[:5]
    return (
        f' In {folder} there are: {", ".join(found)}.' if found else f' {folder} has no such file.'
    )
