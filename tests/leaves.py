"""The config files by kind, for the tests of configs and of released models."""

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest
from mmengine.config import Config

CONFIGS = Path(__file__).parents[1] / 'configs'
ALL = sorted(CONFIGS.rglob('*.py'))
BASES = [path for path in ALL if '_base_' in path.parts]
LEAVES = [path for path in ALL if '_base_' not in path.parts]
GREY_LEVELS = 255.0


def name_of(path: Path) -> str:
    return path.relative_to(CONFIGS).with_suffix('').as_posix()


def bases_of(path: Path) -> list[Path]:
    for statement in ast.parse(path.read_text()).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == '_base_':
            named = ast.literal_eval(statement.value)
            named = [named] if isinstance(named, str) else named
            return [
                CONFIGS / base.removeprefix('vit_dense::') if '::' in base else path.parent / base
                for base in named
            ]
    return []


@cache
def read_leaf(path: Path) -> Config:
    """The config of a file, read once for all tests: they may not change it."""
    return Config.fromfile(path)


@cache
def reaches(path: Path, base: str) -> bool:
    """Whether a file is the base of this name or inherits it."""
    return path.name == base or any(reaches(one, base) for one in bases_of(path))


def detects(path: Path) -> bool:
    """Whether a leaf is a detector's: its runtime is."""
    return reaches(path, 'det_runtime.py')


def is_other_task(path: Path) -> bool:
    """Whether a leaf trains something else than a segmentor or a detector."""
    return any(reaches(path, f'{task}_runtime.py') for task in ('pretraining', 'multitask'))


def few(paths: Iterable[Path]) -> list:
    """All paths as parameters: slow, but for one leaf of each folder and head."""
    seen, parameters = set(), []
    for path in paths:
        kind = path.parent, path.stem.split('_')[1]
        parameters.append(pytest.param(path, marks=[pytest.mark.slow] * (kind in seen)))
        seen.add(kind)
    return parameters


PRETRAINING = [path for path in LEAVES if reaches(path, 'pretraining_runtime.py')]
DETECTION = [path for path in LEAVES if detects(path) and not is_other_task(path)]
SEGMENTATION = [path for path in LEAVES if not detects(path) and not is_other_task(path)]
MULTITASK = [path for path in LEAVES if reaches(path, 'multitask_runtime.py')]
