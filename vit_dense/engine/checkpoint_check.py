"""Refuses checkpoints that are not the model's, where mmengine would go on with random weights.

mmengine loads what fits and logs the rest. A forgotten option or the wrong file then ends in a
metric near chance and no error.
"""

import re
from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, Runner
from torch import Tensor, nn

from ..checkpoint.report import shorten
from .wrappers import unwrap

# Counters of batch norms, which older checkpoints lack and inference does not read.
_OPTIONAL = re.compile(r'num_batches_tracked$')


@HOOKS.register_module()
class CheckpointCheckHook(Hook):
    """Compares a checkpoint with the model before it is loaded.

    For a test, and for a training that is resumed, every parameter and buffer must be there. For
    `load_from`, which starts a new training and may bring other heads, most of the backbone must.

    Args:
        min_backbone: Share of the backbone's parameters, in [0, 1], that `load_from` must fill.
        strict: Whether tests and resumed trainings need every tensor; False only logs, as mmengine
            does.
    """

    def __init__(self, *, min_backbone: float = 0.9, strict: bool = True) -> None:
        if not 0 <= min_backbone <= 1:
            raise ValueError(f'min_backbone={min_backbone} is not a share in [0, 1]')
        self.min_backbone = min_backbone
        self.strict = strict

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Raises `ValueError` with what is missing, before anything is copied."""
        model = unwrap(runner.model)
        state = checkpoint.get('state_dict', checkpoint)
        given = {re.sub(r'^module\.', '', name): tensor for name, tensor in state.items()}
        expected = model.state_dict()
        absent = [
            name
            for name, tensor in expected.items()
            if not _OPTIONAL.search(name) and not _fits(given.get(name), tensor)
        ]
        starts_training = isinstance(runner._train_loop, BaseLoop) and not runner._resume
        if starts_training:
            self._check_backbone(model, given)
        elif absent and self.strict:
            left = [name for name in given if name not in expected]
            raise ValueError(
                f'The checkpoint is not of this model: {len(absent)} of {len(expected)} tensors '
                f'are missing or have another shape ({shorten(absent)}); {len(left)} of the '
                f"file's tensors have no place ({shorten(left) or 'none'}). Give the checkpoint "
                'that this config trained, or the config that trained this checkpoint'
            )

    def _check_backbone(self, model: nn.Module, given: Mapping[str, Any]) -> None:
        backbone = getattr(model, 'backbone', None)
        if not isinstance(backbone, nn.Module):
            return
        sizes = {f'backbone.{name}': p for name, p in backbone.named_parameters()}
        total = sum(p.numel() for p in sizes.values())
        found = sum(p.numel() for name, p in sizes.items() if _fits(given.get(name), p))
        if found < self.min_backbone * total:
            names = shorten(list(given)) or 'none'
            raise ValueError(
                f'load_from fills {found / max(total, 1):.1%} of the backbone, less than '
                f'{self.min_backbone:.0%}: its tensors are {names}. For weights of '
                'a ViT alone set backbone.vit.checkpoint instead; to accept the file, lower '
                'min_backbone of CheckpointCheckHook in default_hooks'
            )


def _fits(given: Any, expected: Tensor) -> bool:
    return isinstance(given, Tensor) and given.shape == expected.shape
