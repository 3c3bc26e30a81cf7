"""Reject checkpoints of another model, where mmengine would continue with random weights.

mmengine loads what fits and logs the rest. A forgotten option or the wrong file then ends in a
metric near chance and no error. Models of other projects (`weights.foreign`) are put under our
names first.
"""

import logging
from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, Runner
from torch import nn

from ..weights import ForeignModel, LoadReport, recognise_foreign
from ..weights.match import compare, require, require_finite, shorten
from ..weights.names import strip_parallel
from ..weights.tasks import take_task
from .class_names import check_class_names
from .resume_check import check_resumable
from .wrappers import iter_datasets, unwrap

_BACKBONE = 'backbone.'


def fit_checkpoint(checkpoint: dict[str, Any], model: nn.Module, *, strict: bool = True) -> None:
    """Compare a checkpoint with the model that is to use it, and rename its tensors, in place.

    Args:
        checkpoint: What was read from the file; afterwards, `checkpoint['state_dict']` has the
            names of `model`, also if another project wrote the file.
        model: Without wrappers.
        strict: Whether every tensor must be there.

    Raises:
        CheckpointMismatchError: The checkpoint is of another model, or holds NaN or infinity.
    """
    take_task(checkpoint, model)
    foreign = recognise_foreign(checkpoint.get('state_dict', checkpoint))
    if foreign is not None:
        _take_foreign(checkpoint, foreign, model, heads=True, strict=strict)
    else:
        given = _strip(checkpoint)
        if strict:
            report = LoadReport('The checkpoint')
            compare(given, model.state_dict(), report)
            advice = (
                'Give the checkpoint that this config trained, or the config that trained this '
                'checkpoint'
            )
            require(report, 'this model', leftovers=True, advice=advice)
    _check_finite(checkpoint, model)


@HOOKS.register_module()
class CheckpointCheckHook(Hook):
    """Compare a checkpoint with the model before it is loaded, and refuse NaN and infinity in it.

    For a test, and for a training that is resumed, every parameter and buffer must be there. For
    `load_from`, which starts a new training and may bring other heads, most of the backbone must;
    of another project's model all, and nothing may be left over.

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
        """Raise `CheckpointMismatchError` with what does not fit, before anything is copied."""
        model = unwrap(runner.model)
        starts_training = isinstance(runner._train_loop, BaseLoop) and not runner._resume
        take_task(checkpoint, model, needs_heads=not starts_training)
        state = checkpoint.get('state_dict', checkpoint)
        foreign = recognise_foreign(state)
        if foreign is not None and runner._resume:
            raise ValueError(
                f'{foreign} holds weights alone, so no training can be resumed from it: leave '
                f'--resume (resume=True) out and set load_from to the file'
            )
        if not starts_training:
            fit_checkpoint(checkpoint, model, strict=self.strict)
            if self.strict:
                _check_classes(runner, checkpoint)
            if runner._resume:
                check_resumable(runner, checkpoint)
            return
        if self.strict:
            _check_classes(runner, checkpoint, starts_training=True)
        if foreign is not None:
            _take_foreign(checkpoint, foreign, model, heads=False, strict=self.strict)
        else:
            self._check_backbone(model, _strip(checkpoint))
        _check_finite(checkpoint, model)

    def _check_backbone(self, model: nn.Module, given: Mapping[str, Any]) -> None:
        parts = dict(model.named_children())
        backbone = parts.get('backbone', parts.get('vit'))  # the latter of pretraining
        if backbone is None:
            return
        prefix = _BACKBONE if 'backbone' in parts else 'vit.'
        own = {f'{prefix}{name}': p for name, p in backbone.named_parameters()}
        statistics = {f'{prefix}{name}' for name, _ in backbone.named_buffers()}
        inside = {
            name: t
            for name, t in given.items()
            if name.startswith(prefix) and name not in statistics
        }
        report = LoadReport('load_from')
        compare(inside, own, report)
        if self.min_backbone > 0:
            require(
                report,
                'the backbone',
                min_matched=self.min_backbone,
                option='min_backbone of CheckpointCheckHook in default_hooks',
                leftovers=True,
                advice=f'The file has {shorten(given) or "nothing"}. For weights of a ViT alone '
                f'set {prefix.removesuffix("vit.")}vit.checkpoint instead, which resizes; to '
                'accept what fits of the file, set min_backbone=0',
            )
        if report.missing:
            print_log(
                f'load_from lacks {len(report.missing)} tensors of the backbone, which keep their '
                f'initial values: {shorten(report.missing)}',
                logger='current',
                level=logging.WARNING,
            )


def _check_finite(checkpoint: Mapping[str, Any], model: nn.Module) -> None:
    own, given = model.state_dict(), checkpoint.get('state_dict', checkpoint)
    used = {name: tensor for name, tensor in given.items() if name in own}
    require_finite(used, model, LoadReport('The checkpoint'))


def _strip(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Remove the prefixes of parallel training, of which mmengine cuts off the first one only."""
    given, prefix = strip_parallel(checkpoint.get('state_dict', checkpoint))
    if prefix:
        checkpoint['state_dict'] = given
    return given


def _take_foreign(
    checkpoint: dict[str, Any],
    foreign: ForeignModel,
    model: nn.Module,
    *,
    heads: bool,
    strict: bool,
) -> None:
    """Put a foreign model under our names, in place; without `heads` they may differ."""
    expected = model.state_dict()
    state, report = foreign.plan(expected, 'checkpoint')
    print_log(str(report), logger='current')
    if not heads:
        backbone = {n: t for n, t in expected.items() if n.startswith(_BACKBONE)}
        _, report = foreign.plan(backbone, 'checkpoint')
    if strict:
        require(report, 'the model', advice=foreign.advice(report))
    if differing := foreign.differences(model):
        text = f'{foreign} computes something else with this config: {"; ".join(differing)}'
        print_log(text, logger='current', level=logging.WARNING)
    meta = checkpoint.get('meta', {})
    checkpoint.clear()
    checkpoint.update(meta=meta, state_dict=state)


def _check_classes(
    runner: Runner, checkpoint: Mapping[str, Any], *, starts_training: bool = False
) -> None:
    """Compare the class names in a checkpoint with those of the data of the runner's loop."""
    loops = (getattr(runner, f'_{split}_loop', None) for split in ('test', 'val', 'train'))
    loop = next((one for one in loops if isinstance(one, BaseLoop)), None)
    if loop is None:
        return
    dataset = loop.dataloader.dataset
    pairs = [(checkpoint, next(iter_datasets(dataset)))]
    if tasks := getattr(dataset, 'parts', None):  # of several tasks
        metas = checkpoint.get('meta', {}).get('dataset_meta') or {}
        pairs = [({'meta': {'dataset_meta': metas.get(n)}}, one) for n, one in tasks.items()]
    for given, part in pairs:
        classes = (getattr(part, 'metainfo', None) or {}).get('classes')
        check_class_names(given, classes, starts_training=starts_training)
