"""`default_hooks = dict(NAME=None)` in a config removes a hook of any name.

mmengine 0.10.7 takes None for the names of its own six default hooks, and fails with a bare
AssertionError for all others, which a config inherits just as well.
"""

import difflib
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

__all__ = ['install']

# Those that mmengine adds by itself, and that None must reach in order to remove.
_MMENGINE_HOOKS = (
    'runtime_info',
    'timer',
    'sampler_seed',
    'logger',
    'param_scheduler',
    'checkpoint',
)
_CLOSE = 0.85  # 'picture' and 'pictures', but not 'check' and 'checkpoint_check'
_mmengine_register_default_hooks = Runner.register_default_hooks


def install() -> None:
    """Replace `Runner.register_default_hooks`."""
    Runner.register_default_hooks = _register_default_hooks


def _register_default_hooks(
    self: Runner, hooks: dict[str, Hook | dict[str, Any] | None] | None = None
) -> None:
    """Register the hooks of `hooks` that are not None, and mmengine's own.

    Raises:
        ValueError: If a None stands under a misspelt name, and removes nothing.
    """
    if hooks is not None:
        kept = [name for name, hook in hooks.items() if hook is not None]
        for name in hooks.keys() - {*kept, *_MMENGINE_HOOKS}:
            if close := difflib.get_close_matches(name, kept, n=1, cutoff=_CLOSE):
                raise ValueError(
                    f'default_hooks.{name}=None removes no hook: did you mean {close[0]}=None?'
                )
        hooks = {
            name: hook
            for name, hook in hooks.items()
            if hook is not None or name in _MMENGINE_HOOKS
        }
    _mmengine_register_default_hooks(self, hooks)
