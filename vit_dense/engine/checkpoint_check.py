"""Refuses checkpoints that are not the model's, where mmengine would go on with random weights.

mmengine loads what fits and logs the rest. A forgotten option or the wrong file then ends in a
metric near chance and no error. Released ViT-Adapter and ViT-CoMer checkpoints are recognised and
put under our names first.
"""

import logging
import re
from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, Runner
from torch import nn

from ..weights import recognise_foreign
from ..weights.report import fits, share_of, shorten
from .wrappers import unwrap

# Counters of batch norms, which older checkpoints lack and inference does not read.
_OPTIONAL = re.compile(r'num_batches_tracked$')


@HOOKS.register_module()
class CheckpointCheckHook(Hook):
    """Compares a checkpoint with the model before it is loaded.

    For a test, and for a training that is resumed, every parameter and buffer must be there. For
    `load_from`, which starts a new training and may bring other heads, most of the backbone must;
    of a released adapter all, and nothing may be left over.

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
        starts_training = isinstance(runner._train_loop, BaseLoop) and not runner._resume
        state = checkpoint.get('state_dict', checkpoint)
        released = recognise_foreign(state)
        if released is not None:
            if runner._resume:
                raise ValueError(
                    f'{released} holds weights alone, from which no training can go on: leave '
                    f'--resume (resume=True) out and set load_from to the file'
                )
            self._take_released(checkpoint, released, model, heads=not starts_training)
            return
        given = {re.sub(r'^module\.', '', name): tensor for name, tensor in state.items()}
        expected = model.state_dict()
        absent = [
            name
            for name, tensor in expected.items()
            if not _OPTIONAL.search(name) and not fits(given.get(name), tensor)
        ]
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

    def _take_released(
        self, checkpoint: dict[str, Any], released: Any, model: nn.Module, *, heads: bool
    ) -> None:
        """Puts a released checkpoint under our names, in place; without heads they may differ."""
        state, report = released.plan(model.state_dict(), 'checkpoint')
        print_log(str(report), logger='current')
        wrong = [
            name
            for name in [*report.missing, *report.mismatched, *report.unexpected]
            if not _OPTIONAL.search(name) and (heads or name.startswith('backbone.'))
        ]
        if wrong and self.strict:
            raise ValueError(
                f'{released} does not fit the model: {len(wrong)} tensors are missing, left over '
                f'or have another shape ({shorten(wrong)}). {released.advice(report)}'
            )
        if differing := released.differences(model):
            text = f'{released} computes something else with this config: {"; ".join(differing)}'
            print_log(text, logger='current', level=logging.WARNING)
        meta = checkpoint.get('meta', {})
        checkpoint.clear()
        checkpoint.update(meta=meta, state_dict=state)

    def _check_backbone(self, model: nn.Module, given: Mapping[str, Any]) -> None:
        backbone = getattr(model, 'backbone', None)
        if not isinstance(backbone, nn.Module):
            return
        sizes = {f'backbone.{name}': p for name, p in backbone.named_parameters()}
        other = [name for name, p in sizes.items() if name in given and not fits(given[name], p)]
        if other and self.min_backbone > 0:
            raise ValueError(
                f'load_from has {len(other)} tensors of the backbone in another shape '
                f'({shorten(other)}): give the settings that the file was trained with. For '
                'weights of a ViT alone set backbone.vit.checkpoint instead, which resizes; to '
                'accept the rest of the file, set min_backbone=0 of CheckpointCheckHook'
            )
        if absent := [name for name in sizes if name not in given]:
            print_log(
                f'load_from lacks {len(absent)} tensors of the backbone, which keep their initial '
                f'values: {shorten(absent)}',
                logger='current',
                level=logging.WARNING,
            )
        share = share_of(sizes, given)
        if share < self.min_backbone:
            names = shorten(list(given)) or 'none'
            raise ValueError(
                f'load_from fills {share:.1%} of the backbone, less than '
                f'{self.min_backbone:.0%}: its tensors are {names}. For weights of '
                'a ViT alone set backbone.vit.checkpoint instead; to accept the file, lower '
                'min_backbone of CheckpointCheckHook in default_hooks'
            )
