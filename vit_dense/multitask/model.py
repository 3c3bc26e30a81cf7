"""Several tasks on one encoder.

    images -> backbone -> maps -> neck and heads of each task -> losses or predictions

Each task is an ordinary model of mmseg or mmdet without `backbone`, built by its library, where
`SharedBackbone` stands in its place.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor, BaseModel, ModuleDict
from mmengine.registry import MODELS
from torch import Tensor, nn

from .scopes import build_in_scope, scope_of


@MODELS.register_module()
class MultiTaskModel(BaseModel):
    """Models of mmseg and mmdet that share a backbone; state dict `backbone.*`, `tasks.NAME.*`.

    Images that are equal for several tasks pass the backbone once.

    Args:
        backbone: Config of the backbone of all tasks.
        tasks: Name -> config of the task's model without `backbone`, such as
            `dict(seg=dict(type='mmseg.EncoderDecoder', data_preprocessor=..., ...))`.
        loss_weights: Name -> factor on the task's losses, by default 1.0; or 'uncertainty': with a
            learned s, the log of the variance, for each task, its losses L become
            exp(-s) L + s / 2 (Kendall, Gal and Cipolla, CVPR 2018, for classification).

    Attributes:
        scopes: Name -> library of the task, 'mmseg' or 'mmdet'.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        tasks: Mapping[str, dict[str, Any]],
        *,
        loss_weights: Mapping[str, float] | str | None = None,
    ) -> None:
        super().__init__()
        named = isinstance(tasks, Mapping) and all(isinstance(x, Mapping) for x in tasks.values())
        # Sorted as written configs are: the order of parameters follows it.
        names = sorted(tasks) if named else []
        if not names or not all(map(_is_name, names)):
            raise ValueError(
                f'model.tasks={names or tasks}: name one task or more, NAME=dict(type=...), each '
                'like a variable, no attribute of ModuleDict, and without "loss", as losses are '
                'called NAME.loss_...'
            )
        self.backbone = MODELS.build(backbone)
        self.scopes = {name: scope_of(tasks[name], f'model.tasks.{name}') for name in names}
        self.tasks = ModuleDict({name: self._build(name, tasks[name]) for name in names})
        parts = {name: task.data_preprocessor for name, task in self.tasks.items()}
        self.data_preprocessor = TaskPreprocessors(parts)
        learned = names if loss_weights == 'uncertainty' else []
        variances = {name: nn.Parameter(torch.zeros(())) for name in learned}
        self.log_variances = nn.ParameterDict(variances)
        self.loss_weights = _weights(None if learned else loss_weights, names)
        # id of an image of the current step -> its maps, once they are computed
        self._maps: dict[int, Any] = {}

    def _build(self, name: str, config: dict[str, Any]) -> BaseModel:
        place = f'model.tasks.{name}'
        if 'backbone' in config:
            raise ValueError(f'{place}.backbone: all tasks share model.backbone. Remove it.')
        if not config.get('data_preprocessor'):
            raise ValueError(f'{place} has no data_preprocessor, which normalises its images.')
        # A function is not copied with the config.
        stub = {'type': lambda: SharedBackbone(self.encode)}
        return build_in_scope(MODELS, {**config, 'backbone': stub}, place)

    def encode(self, image: Tensor) -> Any:
        """Return the backbone's maps of `(B, C, H, W)`, computed once for the images of a step."""
        maps = self._maps.get(id(image))
        if maps is None:
            maps = self.backbone(image)
        if id(image) in self._maps:  # and no crop of it
            self._maps[id(image)] = maps
        return maps

    def forward(
        self,
        inputs: Tensor | Mapping[str, Tensor],
        data_samples: Mapping[str, Any] | None = None,
        mode: str = 'tensor',
    ) -> Any:
        """Run the tasks on preprocessed images `(B, C, H, W)`: one tensor for all, or by name.

        Returns:
            'loss': name and value of each loss, such as 'seg.decode.loss_ce'; 'predict': the
            samples of one task after the other; 'tensor': name -> what the task's model returns.
        """
        given = dict.fromkeys(self.tasks, inputs) if isinstance(inputs, Tensor) else inputs
        # The first of equal images stands for all of them.
        images = {n: next(y for y in given.values() if _is_equal(x, y)) for n, x in given.items()}
        samples = data_samples or {}
        self._maps = dict.fromkeys(map(id, images.values()))
        try:
            results = {n: self.tasks[n](x, samples.get(n), mode=mode) for n, x in images.items()}
        finally:
            self._maps = {}
        if mode == 'predict':
            return [sample for several in results.values() for sample in several]
        return self.weigh(results) if mode == 'loss' else results

    def weigh(self, results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Return weighted losses, and other figures as they are, as 'NAME.figure'."""
        found: dict[str, Any] = {}
        for name, figures in results.items():
            factor: Any = self.loss_weights[name]
            if name in self.log_variances:
                factor = (-self.log_variances[name]).exp()
                found[f'{name}.loss_log_variance'] = self.log_variances[name] / 2
                found[f'{name}.weight'] = factor.detach()
            for key, value in figures.items():
                if 'loss' in key:  # what mmengine adds up, of lists the sum of the means
                    parts = value if isinstance(value, list) else [value]
                    value = [factor * one for one in parts]
                found[f'{name}.{key}'] = value
        return found


class SharedBackbone(nn.Module):
    """Stands in a task's model for the backbone of all tasks, and has its attributes."""

    def __init__(self, encode: Any) -> None:
        super().__init__()
        self.encode = encode  # a method of the whole model, which registers no module here

    def init_weights(self) -> None:
        """Do nothing: the whole model initialises its backbone."""

    def forward(self, image: Tensor) -> Any:
        """Return the backbone's maps."""
        return self.encode(image)

    def __getattr__(self, name: str) -> Any:
        # The optimizer finds the layers of a ViT in the backbone itself.
        if name == 'layer_groups' or 'encode' not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.encode.__self__.backbone, name)


class TaskPreprocessors(BaseDataPreprocessor):
    """Preprocess the part of each task as its own model does; `parts` are its preprocessors."""

    def __init__(self, parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(parts)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Return 'inputs' and 'data_samples', both by name of the task.

        `data['data_samples']` has the samples of all images by task (`JointDataset`), or is a list
        of samples that name their `task` (`MultiTaskDataset`).
        """
        images, samples = data['inputs'], data['data_samples']
        if isinstance(samples, Mapping):
            groups = {n: {'inputs': images, 'data_samples': part} for n, part in samples.items()}
        else:
            groups = {one.task: {'inputs': [], 'data_samples': []} for one in samples}
            for image, sample in zip(images, samples, strict=True):
                groups[sample.task]['inputs'].append(image)
                groups[sample.task]['data_samples'].append(sample)
        packed = {name: self.parts[name](group, training) for name, group in groups.items()}
        return {key: {name: one[key] for name, one in packed.items()} for key in data}


def _weights(given: Any, names: list[str]) -> dict[str, float]:
    """Return a weight for each task; raise `ValueError` if they cannot be used."""
    weights = dict.fromkeys(names, 1.0) | (dict(given) if isinstance(given, Mapping) else {})
    valid = all(isinstance(one, int | float) and 0 <= one < math.inf for one in weights.values())
    is_known = given is None or (isinstance(given, Mapping) and len(weights) == len(names))
    if not is_known or not valid or not sum(weights.values()):
        raise ValueError(
            f"model.loss_weights={given!r}: give 'uncertainty', or for the tasks "
            f'{", ".join(names)} finite numbers of at least 0 that are not all 0, such as '
            f'dict({names[0]}=1.0).'
        )
    return weights


def _is_equal(one: Tensor, other: Tensor) -> bool:
    return one is other or (one.shape == other.shape and torch.equal(one, other))


def _is_name(name: str) -> bool:
    return name.isidentifier() and 'loss' not in name and not hasattr(ModuleDict, name)
