"""Checkpoints of plain values only, so that torch reads them back with `weights_only=True`.

mmengine 0.10.7 stores its message hub as `HistoryBuffer` objects and lets numpy numbers through
(best scores, scheduler states), which torch >= 2.6 refuses to load. `PlainHistoryHook` turns
everything in a checkpoint into tensors, numbers, strings and containers before it is written and
rebuilds the histories after it is read. One line in a config suffices:

    custom_hooks = [dict(type='PlainHistoryHook')]
"""

import logging
import os
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer, print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner

__all__ = ['PlainHistoryHook', 'restore_histories', 'to_plain']

_ATOMS = (str, int, float, complex, bytes)
_TORCH_VALUES = (torch.Tensor, torch.Size, torch.dtype, torch.device)


@HOOKS.register_module()
class PlainHistoryHook(Hook):
    """Write checkpoints that load under `weights_only=True` and resume their histories."""

    # After every hook that adds to a checkpoint.
    priority = 'LOWEST'

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Replace the entries of `checkpoint` by plain values; the runner's own stay as they are.

        Values without a plain form are left out, with one warning that names them.
        """
        dropped: list[str] = []
        for key, value in checkpoint.items():
            checkpoint[key] = to_plain(value, key, dropped)
        if dropped:
            print_log(
                'Left out of the checkpoint, as torch would refuse to load it again: '
                + ', '.join(dropped),
                logger='current',
                level=logging.WARNING,
            )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Rebuild the histories; mmengine passes them to its message hub after this hook."""
        restore_histories(checkpoint)


def to_plain(value: Any, name: str, dropped: list[str]) -> Any:
    """Return `value` with numpy, mmengine and user classes replaced by plain equivalents.

    Args:
        value: Any content of a checkpoint.
        name: Its position in the checkpoint, for the report.
        dropped: Receives the name and type of everything that has no plain form; `None` takes
            its place.
    """
    if value is None or type(value) in (bool, *_ATOMS) or isinstance(value, _TORCH_VALUES):
        return value
    if isinstance(value, HistoryBuffer):
        log, count = value.data
        return {
            'log_history': torch.from_numpy(log),
            'count_history': torch.from_numpy(count),
            'max_length': int(value.max_length),
        }
    if isinstance(value, np.generic | np.ndarray):
        return to_plain(value.tolist(), name, dropped)
    if isinstance(value, dict):
        kind = OrderedDict if isinstance(value, OrderedDict) else dict
        plain = kind(
            (to_plain(key, f'{name} (key)', dropped), to_plain(item, f'{name}.{key}', dropped))
            for key, item in value.items()
        )
        if isinstance(plain, OrderedDict) and hasattr(value, '_metadata'):
            plain._metadata = value._metadata  # type: ignore[attr-defined]  # torch's versions
        return plain
    for sequence in (list, tuple, set):
        if isinstance(value, sequence):
            return sequence(to_plain(x, f'{name}[{i}]', dropped) for i, x in enumerate(value))
    if isinstance(value, os.PathLike):
        return str(value)
    for atom in _ATOMS:
        if isinstance(value, atom):  # subclasses, such as enums of str and int
            return atom(value)  # type: ignore[arg-type]
    dropped.append(f'{name} ({type(value).__module__}.{type(value).__qualname__})')
    return None


def restore_histories(checkpoint: dict[str, Any]) -> None:
    """Convert the plain histories of a message hub, if there are any, back in place."""
    hub = checkpoint.get('message_hub')
    histories = hub.get('log_scalars') if isinstance(hub, dict) else None
    if not isinstance(histories, dict):
        return
    for key, value in histories.items():
        if isinstance(value, dict) and value.keys() == {
            'log_history',
            'count_history',
            'max_length',
        }:
            histories[key] = HistoryBuffer(
                value['log_history'].cpu().numpy(),
                value['count_history'].cpu().numpy(),
                value['max_length'],
            )
