"""Score frozen timm models on labelled images by ridge regression on their maps.

A linear probe as in DINOv2 (Oquab et al. 2023, section 7.4), in closed form: features are
standardised, and the penalty is the one with the least squared error on a fourth of the training
images. Segmentation predicts the share of each class in each patch and is scored by the mIoU of
pixels; detection classifies the mean of the map within boxes and is scored by balanced accuracy.
"""

import statistics
import time
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor, nn
from torchvision.ops import roi_align

from ..backbones.families.registry import FAMILIES, timm_module
from ..engine.ridge import LEAST_KNOWN, VOID, fit_ridge, patch_counts, second_moments
from ..layers import map_to_tokens, resample_map
from .analysis import saved_bytes_by_part
from .devices import choose_device
from .probe_data import Example, ProbeData

_HELD_OUT = 4  # every fourth training image chooses the penalty
_RESAMPLES = 1000
_LOW, _HIGH = 0.025, 0.975  # of the resampled scores
_ADAMW = 4  # weights, gradients and two moments


class ProbeResult(NamedTuple):
    """The score of a model, and what it costs."""

    model: str
    score: float  # mIoU or balanced accuracy in percent
    interval: tuple[float, float]  # 95 % of `resamples`
    ms: float  # median of the forward passes of one image
    parameters: int
    training_memory: int  # bytes for one image: weights, AdamW's state, gradients, activations
    licence: str  # of timm's weights, as timm records it
    resamples: list[float]  # scores of resampled images, the same for all models

    def is_tied_with(self, best: 'ProbeResult') -> bool:
        """Return whether the 95 % interval of the difference to `best` includes 0."""
        difference = torch.tensor(best.resamples) - torch.tensor(self.resamples)
        return bool(difference.quantile(_LOW) <= 0)


def probe_model(
    data: ProbeData, model: str, *, model_kwargs: dict[str, Any] | None = None, device: str = 'auto'
) -> ProbeResult:
    """Score one frozen model.

    Plain ViTs give the map of the last block, after the final norm if they have one; hierarchical
    models those of strides 16 and 32, concatenated at stride 16.

    Args:
        data: From `load_probe_data`.
        model: A timm name, for timm's pretrained weights; 'NAME=FILE' or 'NAME=random' for others.
        model_kwargs: Further arguments of the timm model.
        device: 'auto' for CUDA where there is one, or a device of torch.

    Raises:
        ValueError: There is no such model, or its weights are not available or do not fit.
    """
    backbone = _build(model, model_kwargs or {}).to(choose_device(device))
    seconds: list[float] = []
    known = (one.labels[one.labels != VOID] for one in data.train)
    totals = torch.stack([torch.bincount(one, minlength=data.classes) for one in known]).sum(0)
    moments: list[Any] = [0, 0]  # of fitted and of held-out images
    for number, one in enumerate(data.train):
        rows = _rows(one, *_features(backbone, one, seconds), 1 / totals.clamp(min=1))
        moments[number % _HELD_OUT == _HELD_OUT - 1] += second_moments(*rows)
    probe = fit_ridge(moments[0], moments[1], data.classes)
    counts = [_confusion(one, *_features(backbone, one, seconds), *probe) for one in data.val]
    right, total = torch.stack(counts).diagonal(dim1=1, dim2=2), torch.stack(counts).sum(2)
    if data.val[0].boxes is None:
        total = total + torch.stack(counts).sum(1) - right  # the union
    resamples = bootstrap(right, total)
    image = _normalise(backbone, data.val[0].image)
    trained = _Trained(backbone).to(image.device)
    activations = saved_bytes_by_part(trained, {'image': image}).total()
    recorded = getattr(backbone, 'vit', backbone).model.pretrained_cfg.get('license')
    return ProbeResult(
        model,
        float(mean_share(right.sum(0), total.sum(0))),
        (float(resamples.quantile(_LOW)), float(resamples.quantile(_HIGH))),
        1000 * statistics.median(seconds),
        sum(one.numel() for one in backbone.parameters()),
        activations + _ADAMW * sum(one.nbytes for one in backbone.parameters()),
        '-' if '=' in model else recorded or 'not recorded',
        resamples.tolist(),
    )


def bootstrap(right: Tensor, total: Tensor) -> Tensor:
    """Return the scores of images drawn with replacement, from counts (images, C)."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(len(right), (_RESAMPLES, len(right)), generator=generator)
    times = F.one_hot(drawn, len(right)).sum(1).double()
    return mean_share(times @ right.double(), times @ total.double())


def mean_share(right: Tensor, total: Tensor) -> Tensor:
    """Return the mean of right / total over the classes that occur, in percent."""
    return 100 * (right.double() / total.double()).nanmean(-1)


def _build(model: str, model_kwargs: dict[str, Any]) -> Any:
    name, _, weights = model.partition('=')
    settings: dict[str, Any] = {'model_name': name, 'model_kwargs': model_kwargs}
    settings['pretrained'] = not weights
    settings['checkpoint'] = None if weights in ('', 'random') else weights
    torch.manual_seed(0)
    if timm_module(name) not in FAMILIES:
        backbone: Any = MODELS.build({'type': 'TimmPyramid', **settings})
    else:
        vit = {'type': 'TimmViT', 'final_norm': True, **settings}
        try:
            backbone = MODELS.build({'type': 'PlainViT', 'vit': vit})
        except ValueError:  # not all have a final norm
            backbone = MODELS.build({'type': 'PlainViT', 'vit': {**vit, 'final_norm': False}})
    getattr(backbone, 'vit', backbone).init_weights()
    return backbone.eval()


def _normalise(backbone: Any, image: Tensor) -> Tensor:
    source = getattr(backbone, 'vit', backbone)
    mean, std = (255 * torch.tensor(x).view(1, 3, 1, 1) for x in (source.mean, source.std))
    return ((image - mean) / std).to(next(backbone.parameters()).device)


@torch.inference_mode()
def _features(backbone: Any, example: Example, seconds: list[float]) -> tuple[Tensor, int]:
    """Return a map (1, D, h, w) or the means of boxes (N, D), and its stride; append the time."""
    inputs = _normalise(backbone, example.image)
    start = time.perf_counter()
    maps = [one.cpu() for one in backbone(inputs)]  # waits for a GPU
    seconds.append(time.perf_counter() - start)
    if len(maps) == 1:
        features, stride = maps[0], backbone.vit.patch_size
    else:
        coarse = resample_map(maps[3], stride=32, new_stride=16, size=maps[2].shape[-2:])
        features, stride = torch.cat([maps[2], coarse], 1), 16
    if example.boxes is not None:
        features = roi_align(features, [example.boxes], 1, 1 / stride, aligned=True).flatten(1)
    return features.double(), stride


def _rows(example: Example, features: Tensor, stride: int, balance: Tensor) -> tuple[Tensor, ...]:
    """Return features (N, D), targets (N, C) and weights (N,) of patches or boxes.

    Classes of boxes have the same weight, as the score is a mean over classes.
    """
    if example.boxes is not None:
        return features, F.one_hot(example.labels, len(balance)), balance[example.labels]
    counts = patch_counts(example.labels, stride, features.shape[-2:], len(balance))
    total = counts.sum(1)
    weight = torch.where(total > LEAST_KNOWN * stride**2, total / stride**2, 0)
    return map_to_tokens(features)[0], counts / total.clamp(min=1)[:, None], weight


def _confusion(
    example: Example, features: Tensor, stride: int, weight: Tensor, bias: Tensor
) -> Tensor:
    """Return counts (C, C) of labels and predictions."""
    if example.boxes is not None:
        predicted = (features @ weight + bias).argmax(1)
    else:
        scores = (map_to_tokens(features) @ weight + bias).mT.unflatten(2, features.shape[2:])
        scores = F.interpolate(scores.float(), scale_factor=stride, mode='bilinear')
        height, width = example.labels.shape
        predicted = scores[0, :, :height, :width].argmax(0)
    known = example.labels != VOID
    pairs = example.labels[known] * len(bias) + predicted[known]
    return torch.bincount(pairs, minlength=len(bias) ** 2).view(len(bias), len(bias))


class _Trained(BaseModel):
    """A backbone in the form that `saved_bytes_by_part` measures."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, image: Tensor, mode: str) -> list[Tensor]:
        return [one.sum() for one in self.backbone(image)]
