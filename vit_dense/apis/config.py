"""Load a config and build its runner, as OpenMMLab's tools do."""

import difflib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.config.utils import ConfigParsingError
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ..compat.config_paths import CONFIG_PREFIX, config_path
from ..compat.config_variables import read_config, runner_keys
from .config_checks import check_head_inputs, check_options

# The value that visualizers inherit from the runtimes of this package and of OpenMMLab.
_DEFAULT_BACKENDS = [{'type': 'LocalVisBackend'}]
_NAMES_SHOWN = 5
_ENDINGS = ('.py', '.json', '.yaml', '.yml')


def load_config(
    path: str,
    *,
    work_dir: str | None = None,
    cfg_options: dict[str, Any] | None = None,
    launcher: str = 'none',
) -> Config:
    """Load a config file, import what it names in `custom_imports`, and apply the options.

    Modules beside the config file can be imported, as those beside a script can.

    Args:
        path: The config file, or a name such as 'vit_dense::vit_upernet_ade20k.py'.
        work_dir: Folder for logs and checkpoints. Default: the config's own `work_dir`, else
            `work_dirs/` and the config's name.
        cfg_options: Dotted keys and the values to set.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.

    Raises:
        ValueError: The file or one that it inherits does not exist (the message lists similar
            names), or an option sets what no config has.
    """
    if path.startswith(CONFIG_PREFIX):
        path = str(config_path(path.removeprefix(CONFIG_PREFIX)))
    if not Path(path).is_file():
        raise ValueError(f'Config not found: {path}.{_nearest(path)}')
    if Path(path).suffix not in _ENDINGS:
        raise ValueError(f'{path} is no config: its name ends in one of {", ".join(_ENDINGS)}.')
    folder = str(Path(path).resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    config = _read(path)
    config.launcher = launcher
    if cfg_options:
        check_options(config, cfg_options)
        known = {*config}
        _merge(config, cfg_options)
        names = {key.partition('.')[0] for key in cfg_options} & known - runner_keys()
        if names and Config._is_lazy_import(path):
            print_log(
                f'--cfg-options {", ".join(sorted(names))}: a config with read_base has been '
                'computed before. Set the places where its value is used, too.',
                logger='current',
                level=logging.WARNING,
            )
        elif names:
            config = read_config(path, {name: config[name] for name in names})
            config.launcher = launcher
            _merge(config, {key: value for key, value in cfg_options.items() if key not in names})
    _apply_backends(config)
    if work_dir is not None:
        config.work_dir = work_dir
    elif config.get('work_dir') is None:
        config.work_dir = str(Path('work_dirs') / Path(path).stem)
    return config


def _read(path: str) -> Config:
    try:
        return Config.fromfile(path)
    except ConfigParsingError as error:
        raise ValueError(
            f'{path}: {error}\nA config with import statements inherits by `with read_base():`, '
            "any other by _base_ = 'vit_dense::NAME'. Name your own modules in custom_imports."
        ) from error
    except SyntaxError as error:
        raise ValueError(
            f'{path}, or a config that it inherits, is not valid Python: {error.msg} in line '
            f'{error.lineno}, {(error.text or "").strip()!r}. Correct that line.'
        ) from error
    except FileNotFoundError as error:
        absent = str(error.filename or error)
        raise ValueError(
            f'{path} inherits a config that does not exist: {absent}. A name in _base_ starts in '
            'the folder of the file that names it; for a config of this package write _base_ = '
            "'vit_dense::NAME', e.g. 'vit_dense::vit_upernet_ade20k.py'."
        ) from error


def _merge(config: Config, options: dict[str, Any]) -> None:
    for key, value in options.items():
        try:
            # Numbers in dotted keys choose an entry of a list; in a dict they are keys.
            config.merge_from_dict({key: value}, allow_list_keys='.' in key)
        except (KeyError, TypeError, AssertionError, AttributeError) as error:
            reason = error.args[0] if error.args else type(error).__name__
            raise ValueError(f'--cfg-options {key}={value}: {reason}') from error


def _apply_backends(config: Config) -> None:
    """Give the visualizer the backends of a top-level `vis_backends`, if it has the default ones.

    In OpenMMLab's configs that variable is only read by the file that defines it, and setting it
    in a config that inherits has no effect.
    """
    backends, visualizer = config.get('vis_backends'), config.get('visualizer')
    if backends and visualizer and visualizer.get('vis_backends') == _DEFAULT_BACKENDS:
        visualizer.vis_backends = backends


def build_runner(config: Config) -> Runner:
    """Build the runner that the config names, by default mmengine's.

    Raises:
        ValueError: The config contradicts itself.
    """
    check_head_inputs(config)
    if 'runner_type' in config:
        return RUNNERS.build(config)
    return Runner.from_cfg(config)


def require_file(path: str, what: str) -> None:
    """Raise `ValueError` with similar names if the file `path` does not exist.

    Addresses (`https://...`, `open-mmlab://...`) are left to mmengine.
    """
    if '://' not in path and not Path(path).is_file():
        raise ValueError(f'{what} not found: {path}.{_nearest(path)}')


def require_one_task(config: Config) -> None:
    """Raise `ValueError` for a config of several tasks, which only training and test take."""
    if tasks := (config.get('model') or {}).get('tasks'):
        raise ValueError(
            f'The config has the tasks {", ".join(tasks)}, of which this takes one: give the '
            'config of that task alone, which loads the multi-task checkpoint, too.'
        )


def innermost_datasets(dataset: ConfigDict) -> Iterator[ConfigDict]:
    """Yield the configs of the data sets inside repetition, concatenation and other wrappers."""
    if 'dataset' in dataset:
        yield from innermost_datasets(dataset['dataset'])
    elif 'datasets' in dataset:
        for one in dataset['datasets']:
            yield from innermost_datasets(one)
    else:
        yield dataset


def _nearest(path: str) -> str:
    folder = Path(path).parent.resolve()
    if not folder.is_dir():
        return f' The folder {folder} does not exist either.'
    names = [entry.name for entry in folder.iterdir() if entry.suffix == Path(path).suffix]
    close = difflib.get_close_matches(Path(path).name, names, n=3)
    if close:
        return f' The nearest names in {folder}: {", ".join(close)}.'
    if not names:
        return f' {folder} has no {Path(path).suffix} file.'
    more = f' and {len(names) - _NAMES_SHOWN} more' if len(names) > _NAMES_SHOWN else ''
    return f' In {folder} there are: {", ".join(sorted(names)[:_NAMES_SHOWN])}{more}.'
