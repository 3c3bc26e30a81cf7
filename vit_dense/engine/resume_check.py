"""Reject checkpoints that cannot resume a training, where mmengine continues with another recipe.

mmengine loads the states that a file has. Without them, the optimizer and the schedules of the
config start anew in the middle of the training.
"""

from collections.abc import Mapping
from typing import Any

from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from ..compat.finite_values import list_non_finite

# States of torch's optimizers that have the shape of their parameter.
_FULL_STATES = ('exp_avg', 'exp_avg_sq', 'momentum_buffer')


def check_resumable(runner: Runner, checkpoint: Mapping[str, Any]) -> None:
    """Compare the states of optimizer and schedules in a checkpoint with those of the training.

    Raises:
        ValueError: The checkpoint lacks them, or they are of another recipe or not finite.
    """
    needed = ['optimizer', *(['param_schedulers'] if runner.param_schedulers is not None else [])]
    if lacking := [name for name in needed if name not in checkpoint]:
        raise ValueError(
            f'The checkpoint to resume from has no {" and no ".join(lacking)} (best_*.pth never '
            'have).\nResume from another file; to start a new training from its weights, set '
            'load_from=FILE and leave --resume (resume=True) out.'
        )
    if bad := list_non_finite(checkpoint['optimizer']):
        raise ValueError(
            f'The optimizer of the checkpoint to resume from holds NaN or infinity ({bad[0]}), so '
            'that training had diverged. Resume from an earlier checkpoint.'
        )
    different = _compare_schedules(checkpoint.get('param_schedulers'), runner.param_schedulers)
    if isinstance(runner.optim_wrapper, OptimWrapper):
        different = _compare_optimizers(checkpoint['optimizer'], runner.optim_wrapper) or different
    if different:
        raise ValueError(
            f'The checkpoint to resume from was trained with another recipe: {different}.\nResume '
            'with the config that trained it; to start a new training from its weights, set '
            'load_from=FILE and leave --resume (resume=True) out.'
        )


def _compare_optimizers(state: Mapping[str, Any], wrapper: OptimWrapper) -> str:
    """Return the first difference of parameter groups or shapes; empty if there is none."""
    groups, own = state['param_groups'], wrapper.optimizer.param_groups
    sizes, own_sizes = ([len(one['params']) for one in both] for both in (groups, own))
    if sizes != own_sizes:
        return f'parameters in each group of its optimizer {sizes}, of this config {own_sizes}'
    if unknown := {key for one in groups for key in one} - {key for one in own for key in one}:
        kind = type(wrapper.optimizer).__name__
        return f'its optimizer has {", ".join(sorted(unknown))}, which {kind} of this config lacks'
    indices = [index for one in groups for index in one['params']]
    parameters = [parameter for one in own for parameter in one['params']]
    for index, parameter in zip(indices, parameters, strict=True):
        for key in _FULL_STATES:
            value = state['state'].get(index, {}).get(key)
            if value is not None and value.shape != parameter.shape:
                return (
                    f'the state of parameter {index} of its optimizer has shape '
                    f'{tuple(value.shape)}, of this config {tuple(parameter.shape)}'
                )
    return ''


def _compare_schedules(states: Any, schedules: Any) -> str:
    if not isinstance(states, list) or not isinstance(schedules, list):
        return ''  # several optimizers
    if len(states) != len(schedules):
        return f'{len(states)} schedules, this config has {len(schedules)}'
    for state, own in zip(states, schedules, strict=True):
        if state.keys() != own.state_dict().keys():
            names = ', '.join(sorted(state.keys() ^ own.state_dict().keys()))
            return f'a schedule differs from {type(own).__name__} of this config in {names}'
    return ''
