"""One task of a multi-task checkpoint (`backbone.*`, `tasks.NAME.*`), for that task's own model."""

from typing import Any

from mmengine.logging import print_log
from torch import nn

from .match import LoadReport, compare, shortfall
from .names import strip_parallel

_TASKS = 'tasks.'
# Attributes of backbones that shapes do not tell, and that make the same weights another function.
_SETTINGS = (
    *('vit_feature_source', 'out_indices', 'stages'),
    *('window_size', 'global_blocks', 'final_norm'),
)


def function_settings(backbone: Any) -> dict[str, Any]:
    """Return the settings of a backbone and its ViT that change its function and no shape."""
    vit = getattr(backbone, 'vit', None)
    if vit is None:
        return {}
    found = {name: getattr(backbone, name, getattr(vit, name, None)) for name in _SETTINGS}
    return {
        name: [*one] if isinstance(one, tuple) else one
        for name, one in found.items()
        if not isinstance(one, nn.Module)  # stages of layers
    }


def take_task(checkpoint: dict[str, Any], model: nn.Module, *, needs_heads: bool = True) -> None:
    """Put the task whose heads fit under the names of the model, in place.

    Other checkpoints, and models of several tasks, are left as they are. Without `needs_heads`, the
    backbone alone may be kept, and may have other settings than in the training.

    Raises:
        ValueError: No task fits, several do, or the settings differ.
    """
    given, _ = strip_parallel(checkpoint.get('state_dict', checkpoint))
    names = [*dict.fromkeys(n.split('.')[1] for n in given if n.startswith(_TASKS))]
    expected = model.state_dict()
    if not names or any(name.startswith(_TASKS) for name in expected):
        return
    reasons, states = {}, {'': {n: t for n, t in given.items() if n.startswith('backbone.')}}
    for name in names:
        own = f'{_TASKS}{name}.'
        heads = {n.removeprefix(own): t for n, t in given.items() if n.startswith(own)}
        states[name] = states[''] | heads
        compare(states[name], expected, report := LoadReport(name))
        reasons[name] = shortfall(report)
    fitting = [name for name in names if not reasons[name]]
    task = fitting[0] if len(fitting) == 1 else ''
    if needs_heads and not task:
        what = '; '.join(f'{name}: {reasons[name] or "fits"}' for name in names)
        raise ValueError(
            f'The checkpoint holds a backbone and the tasks {", ".join(names)}, of which one must '
            f'fit the model ({what}). Give the config of one of them, with the backbone of the '
            'training.'
        )
    others = ', '.join(name for name in names if name != task) or 'nothing'
    used = f'backbone and {task}' if task else 'the backbone'
    print_log(f'Multi-task checkpoint: {used} used, {others} left out.', logger='current')
    if 'state_dict' not in checkpoint:
        checkpoint.clear()
    checkpoint['state_dict'] = states[task]
    meta = checkpoint.setdefault('meta', {})
    meta['dataset_meta'] = (meta.get('dataset_meta') or {}).get(task)
    trained, own_settings = meta.get('backbone_settings') or {}, function_settings(model.backbone)
    pairs = {name: (own_settings.get(name), one) for name, one in trained.items()}
    wrong = [f'{n}={own!r} (trained: {one!r})' for n, (own, one) in pairs.items() if own != one]
    if wrong and needs_heads:
        raise ValueError(
            'The backbone of the config computes something else than the one in the checkpoint: '
            f'{", ".join(wrong)}. Set model.backbone as in the multi-task config.'
        )
