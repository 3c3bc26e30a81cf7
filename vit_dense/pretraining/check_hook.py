"""What is checked before pretraining starts, and what its checkpoints record about it."""

import json
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..engine.check_hook import CheckHook
from ..engine.ridge import VOID
from ..engine.wrappers import unwrap
from ..weights.record import SECTION
from .dataset import LabelledImages
from .probe import MIN_IMAGES, FeatureProbe

_LOADED = 8  # images of the probe, before the training


@HOOKS.register_module()
class PretrainingCheckHook(CheckHook):
    """Check a pretraining, and record in each checkpoint what users of its weights need."""

    def check_model(self, model: Any) -> None:
        """Raise `ValueError` if a teacher cannot tell how the images are normalised."""
        if model.teacher is not None:
            model.teacher.check_units()

    def check_metric(self, metric: BaseMetric, dataset: Any, split: str) -> None:
        """Raise `ValueError` if a probe lacks images or classes, or some of them do not load."""
        if not isinstance(metric, FeatureProbe):
            return
        labelled = isinstance(dataset, LabelledImages) and len(dataset) >= MIN_IMAGES
        if not labelled:
            raise ValueError(
                f'FeatureProbe needs LabelledImages with {MIN_IMAGES} images or more, and the data '
                f'of the {split} are {type(dataset).__name__} with {len(dataset)}. Add images with '
                "masks, or set probe_root='' to train without it."
            )
        seen: set[int] = set()
        for step in (-(-len(dataset) // _LOADED), 1):  # all only if some have a single class
            for index in range(0, len(dataset), step):
                seen |= {*dataset[index]['data_samples'].labels.unique().tolist()} - {VOID}
            if len(seen) > 1:
                return
        held = f'the class {seen.pop()} alone' if seen else 'no class'
        raise ValueError(
            f'The masks of the {split} hold {held}, so that a probe has nothing to tell apart. For '
            'masks of 0 and 255 set probe_labels=dict(label_map={0: 0, 255: 1}), or set '
            "probe_root='' to train without it."
        )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Record the model, the objective and the data, as plain values."""
        model: Any = unwrap(runner.model)
        objectives = ['masked pixels'] if model.loss_weights['pixels'] else []
        if model.teacher is not None:
            objectives.append(f'features of {model.teacher.vit.model_name}')
        record = {
            'model_name': model.vit.model_name,
            'model_kwargs': model.vit.model_kwargs,
            'objective': ', '.join(objectives),
            'mask_ratio': model.mask_ratio,
            'images': len(runner.train_dataloader.dataset),
            'iterations': checkpoint['meta']['iter'],
        }
        for name, values in model.data_preprocessor.named_buffers():  # mean and std
            record[name] = [round(one, 4) for one in values.flatten().tolist()]
        checkpoint['meta'][SECTION] = json.loads(json.dumps(record, default=str))
