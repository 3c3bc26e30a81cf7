"""`default_hooks = dict(NAME=None)` removes a hook, whichever it is."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import HOOKS
from tiny_training import tiny_runner

import vit_dense.detection
import vit_dense.segmentation  # noqa: F401 - both register hooks

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
TASKS = {'seg': 'vit_upernet_demo.py', 'det': 'vit_maskrcnn_demo.py'}


def names(task: str) -> list[str]:
    return sorted(Config.fromfile(CONFIGS / TASKS[task]).default_hooks)


@pytest.mark.parametrize(('task', 'name'), [(task, name) for task in TASKS for name in names(task)])
def test_every_inherited_hook_can_be_removed(task: str, name: str, tmp_path: Path) -> None:
    child = tmp_path / 'child.py'
    child.write_text(
        f'_base_ = {str(CONFIGS / TASKS[task])!r}\ndefault_hooks = dict({name}=None)\n'
    )
    hooks = Config.fromfile(child).default_hooks
    assert hooks[name] is None

    def kinds(default_hooks: dict, start: str) -> list[str]:
        name = f'{start}_{tmp_path.name}'
        runner = tiny_runner(tmp_path, default_hooks=default_hooks, experiment_name=name)
        return sorted(type(hook).__name__ for hook in runner.hooks)

    whole = kinds(dict(Config.fromfile(CONFIGS / TASKS[task]).default_hooks), 'whole')
    rest = kinds(dict(hooks), 'rest')
    kind = Config.fromfile(CONFIGS / TASKS[task]).default_hooks[name].type
    assert sorted([*rest, HOOKS.get(kind).__name__]) == whole


def test_a_misspelt_name_that_removes_nothing_is_refused(tmp_path: Path) -> None:
    hooks = {'pictures': {'type': 'SegPicturesHook'}, 'picture': None}
    with pytest.raises(ValueError, match='picture=None removes no hook: did you mean pictures='):
        tiny_runner(tmp_path, default_hooks=hooks, experiment_name='misspelt')
