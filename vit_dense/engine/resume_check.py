"""Reject checkpoints that cannot resume a training, where mmengine continues with another recipe.

mmengine loads the states that a file has. Without them, the optimizer and the schedules of the
config start anew in the middle of the training.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from ..compat.finite_values import list_non_finite

_ADVICE = (
    'to start a new training from its weights, set load_from=FILE and leave --resume (resume=True) '
    'out.'
)


def check_resumable(runner: Runner, checkpoint: Mapping[str, Any]) -> None:
    """Compare the states of optimizer and schedules in a checkpoint with those of the training.

    Raises:
        ValueError: The checkpoint lacks them, or they are of another recipe or not finite.
    """
    needed = ['optimizer', *(['param_schedulers'] if runner.param_schedulers is not None else [])]
    if lacking := [name for name in needed if name not in checkpoint]:
        raise ValueError(
            f'The checkpoint to resume from has no {" and no ".join(lacking)} (best_*.pth never '
            f'have).\nResume from another file; {_ADVICE}'
        )
    if bad := list_non_finite(checkpoint['optimizer']):
        raise ValueError(
            f'The optimizer of the checkpoint to resume from holds NaN or infinity ({bad[0]}), so '
            'that training had diverged. Resume from an earlier checkpoint.'
        )
    if different := next(_differences(runner, checkpoint), ''):
        raise ValueError(
            f'The checkpoint to resume from was trained with another recipe: {different}.\nResume '
            f'with the config that trained it; {_ADVICE}'
        )


def _differences(runner: Runner, checkpoint: Mapping[str, Any]) -> Iterator[str]:
    wrapper, schedules = runner.optim_wrapper, runner.param_schedulers
    if not isinstance(wrapper, OptimWrapper):
        return  # several optimizers
    groups, own = checkpoint['optimizer']['param_groups'], wrapper.optimizer.param_groups
    sizes, own_sizes = ([len(one['params']) for one in both] for both in (groups, own))
    if sizes != own_sizes:
        yield f'parameters in each group of its optimizer {sizes}, of this config {own_sizes}'
    if unknown := {key for one in groups for key in one} - {key for one in own for key in one}:
        kind = type(wrapper.optimizer).__name__
        yield f'its optimizer has {", ".join(sorted(unknown))}, which {kind} of this config lacks'
    states = checkpoint.get('param_schedulers') or []
    if [one.keys() for one in states] != [one.state_dict().keys() for one in schedules or []]:
        names = ', '.join(type(one).__name__ for one in schedules or [])
        yield f'its schedules ({len(states)}) are not those of this config, {names or "none"}'
