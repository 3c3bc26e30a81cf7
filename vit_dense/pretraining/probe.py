"""Score the features of a model that is being pretrained on some labelled images."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from torch import Tensor

from ..engine.ridge import LEAST_KNOWN, fit_ridge, patch_counts, second_moments
from ..layers import map_to_tokens

MIN_IMAGES = 4  # two of each half: the penalty of the regression is chosen on one of them
_NEIGHBOURS, _TEMPERATURE = 20, 0.07  # as in DINO (Caron et al. 2021)
_CHUNK = 1024  # patches that are compared with all others at a time


@METRICS.register_module()
class FeatureProbe(BaseMetric):
    """Classify patches of labelled images from their features: shares of patches, in percent.

    The label of a patch is the class of most of its pixels; patches of which half of the pixels or
    more have no class are left out. Classifiers are fitted on the first half of the data set and
    tested on the second, as alternate images of a video are alike.

    - `knn`: the 20 nearest neighbours by cosine similarity vote with exp(similarity / 0.07);
    - `linear`: ridge regression on the classes, as in `vit-dense probe`;
    - `majority`: the most frequent class of the fitted images, whatever the features are.
    """

    default_prefix: ClassVar[str] = 'probe'

    def process(self, data_batch: Mapping[str, Any], data_samples: Sequence[Mapping]) -> None:
        """Keep patches: of `labels`, (H, W), and of the model's 'features', (C, h, w)."""
        for sample, truth in zip(data_samples, data_batch['data_samples'], strict=True):
            features, labels = sample['features'].float().cpu(), truth.labels
            stride = labels.shape[0] // features.shape[1]
            counts = patch_counts(labels, stride, features.shape[1:], max(int(labels.max()) + 1, 1))
            known = counts.sum(1) > LEAST_KNOWN * stride**2
            self.results.append((map_to_tokens(features[None])[0][known], counts.argmax(1)[known]))

    def compute_metrics(self, results: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """Fit on one half of the images and test on the other; each needs patches with a class."""
        halves = results[: len(results) // 2], results[len(results) // 2 :]
        (x, y), (tested, truth) = (map(torch.cat, zip(*half, strict=True)) for half in halves)
        if len(y) < 2 or not len(truth):
            raise ValueError(
                'The probe has no patch with a class in one half of its images: add labelled '
                'images, or correct ignore_index and label_map (probe_labels).'
            )
        majority = torch.bincount(y).argmax()
        found = {'knn': _vote(x, y, tested), 'linear': _regress(x, y, tested), 'majority': majority}
        share = {name: (one == truth).double().mean().item() for name, one in found.items()}
        return {name: round(100 * one, 2) for name, one in share.items()}


def _vote(x: Tensor, y: Tensor, tested: Tensor) -> Tensor:
    """Return the classes for which the neighbours of `tested` (N, C) in `x`, of classes y, vote."""
    x, votes = F.normalize(x, dim=1), []
    for chunk in F.normalize(tested, dim=1).split(_CHUNK):
        similarity, index = (chunk @ x.T).topk(min(_NEIGHBOURS, len(x)), dim=1)
        weight = torch.exp(similarity / _TEMPERATURE)
        empty = torch.zeros(len(chunk), int(y.max()) + 1)
        votes.append(empty.scatter_add(1, y[index], weight).argmax(1))
    return torch.cat(votes)


def _regress(x: Tensor, y: Tensor, tested: Tensor) -> Tensor:
    """Return the classes of the highest regression; later rows of `x` choose the penalty."""
    classes = int(y.max()) + 1
    moments: list[Any] = [0, 0]
    for half, (rows, labels) in enumerate(zip(x.chunk(2), y.chunk(2), strict=True)):
        for row, label in zip(rows.split(_CHUNK), labels.split(_CHUNK), strict=True):
            moments[half] += second_moments(row, F.one_hot(label, classes), torch.ones(len(row)))
    weight, bias = fit_ridge(moments[0], moments[1], classes)
    return (tested.double() @ weight + bias).argmax(1)
