"""Where the evidence for a class is, in the maps that a backbone gives to the heads.

Sources: Grad-CAM (Selvaraju et al. 2017, equations 1 and 2) and HiResCAM (Draelos and Carin 2020,
section 3.2), which multiplies maps by their gradient without averaging it. Grad-CAM is meant for
maps after a ReLU. Those of adapters and of most timm models have both signs, and there it also
marks cells that the class does not depend on. For segmentation, the score is the sum of a class's
logits over pixels (Vinogradova et al. 2020).

The package `grad-cam` is not used: it is a source distribution only, and depends on a second OpenCV
distribution that overwrites files of opencv-python.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

METHODS = {'hirescam': 'HiResCAM', 'gradcam': 'Grad-CAM'}
# Detections of at least this score are explained, or the best one.
_MIN_SCORE = 0.3


@dataclass(frozen=True)
class Relevance:
    """Evidence for a class.

    Attributes:
        maps: (h, w) for each map of the backbone, not negative: to first order, what a cell adds
            to the score.
        class_index: The class.
        target: The score that is explained, in words.
    """

    maps: list[Tensor]
    class_index: int
    target: str


def explain(
    model: Any,
    batch: dict[str, Any],
    classes: Sequence[str],
    *,
    wanted: int | None = None,
    point: tuple[int, int] | None = None,
    method: str = 'hirescam',
) -> Relevance:
    """Explain a prediction for one image.

    Segmentation: the score is the logit of the class at a point, or its sum over all pixels where
    the class is predicted. Detection: the sum of the scores of the class's detections above 0.3, or
    its best one's; at a point, of those whose box holds the point.

    Args:
        model: A segmentor of mmseg (with `encode_decode`) or a detector of mmdet, in eval mode.
        batch: `inputs` (1, C, H, W) and `data_samples`, as its data preprocessor returns them.
        classes: Class names.
        wanted: Index of the class; default: the most frequent one (at the point, if given).
        point: (x, y) in pixels of `inputs`.
        method: One of `METHODS`.

    Raises:
        ValueError: The class is not predicted, or the predictions have no gradient.
    """
    if method not in METHODS:
        raise ValueError(f'method={method!r}: give one of {", ".join(METHODS)}.')
    scores = _segmentation_score if hasattr(model, 'encode_decode') else _detection_score
    with torch.enable_grad(), _leaves(model.backbone, batch['inputs']) as maps:
        score, index, target = scores(model, batch, classes, wanted, point)
        if not score.requires_grad:
            with _WithoutDetach():
                score, index, target = scores(model, batch, classes, wanted, point)
        if not score.requires_grad:
            raise ValueError(
                f'{type(model).__name__} cuts the gradient between its predictions and the maps of '
                'its backbone: relevance cannot be computed for it.'
            )
        found = activation_maps(score, maps, method)
    if not all(bool(x.isfinite().all()) for x in found):
        raise ValueError(
            f'The gradient of the {target} is not finite: relevance cannot be computed. Are the '
            'weights of the model finite?'
        )
    return Relevance(found, index, target)


class _WithoutDetach(TorchFunctionMode):
    """Keep the graph where dense heads of mmdet detach their predictions from it."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return args[0] if func is Tensor.detach else func(*args, **(kwargs or {}))


def activation_maps(score: Tensor, maps: Sequence[Tensor], method: str) -> list[Tensor]:
    """Return (h, w) >= 0 for each map (1, C, h, w): what its cells add to the score.

    Args:
        score: Computed from `maps`.
        maps: Leaves of the graph.
        method: 'hirescam', or 'gradcam' to average gradients over each map first.
    """
    gradients = torch.autograd.grad(score, list(maps), allow_unused=True, materialize_grads=True)
    found = []
    for feature_map, gradient in zip(maps, gradients, strict=True):
        if method == 'gradcam':
            gradient = gradient.mean((-2, -1), keepdim=True)
        found.append((gradient * feature_map).sum(1).relu()[0].detach())
    return found


@contextmanager
def _leaves(backbone: nn.Module, image: Tensor) -> Iterator[list[Tensor]]:
    """Run a backbone without a graph, and make the model go on from its maps."""
    with torch.no_grad():
        outputs = [(x, ()) if isinstance(x, Tensor) else (x[0], x[1:]) for x in backbone(image)]
    maps = [x.detach().requires_grad_() for x, _ in outputs]
    found = tuple((x, *rest) if rest else x for x, (_, rest) in zip(maps, outputs, strict=True))
    backbone.__dict__['forward'] = lambda _: found
    try:
        yield maps
    finally:
        del backbone.__dict__['forward']


def _segmentation_score(
    model: Any,
    batch: dict[str, Any],
    classes: Sequence[str],
    wanted: int | None,
    point: tuple[int, int] | None,
) -> tuple[Tensor, int, str]:
    metas = [sample.metainfo for sample in batch['data_samples']]
    logits = model.encode_decode(batch['inputs'], metas)[0]  # (classes, H, W)
    if len(logits) == 1:  # one channel: class 1 where the probability exceeds the threshold
        threshold = torch.tensor(float(model.decode_head.threshold or 0.5))
        logits = logits - torch.logit(threshold)
        logits = torch.cat((-logits, logits))
    height, width = metas[0]['img_shape'][:2]
    logits = logits[:, :height, :width]
    predicted = logits.argmax(0)
    if point is not None:
        x, y = point
        index = int(predicted[y, x]) if wanted is None else wanted
        return logits[index, y, x], index, f'logit of {classes[index]!r} at the point'
    counts = torch.bincount(predicted.flatten(), minlength=len(classes))
    index = int(counts.argmax()) if wanted is None else wanted
    if not counts[index]:
        found = ', '.join(classes[i] for i in counts.nonzero().flatten().tolist())
        raise ValueError(
            f'The model predicts {classes[index]!r} nowhere in this image. Predicted are: {found}. '
            'Choose one of these, or give a point to explain the class there.'
        )
    share = 100 * float(counts[index]) / predicted.numel()
    text = f'logits of {classes[index]!r}, over its predicted pixels ({share:.1f} %)'
    return logits[index][predicted == index].sum(), index, text


def _detection_score(
    model: Any,
    batch: dict[str, Any],
    classes: Sequence[str],
    wanted: int | None,
    point: tuple[int, int] | None,
) -> tuple[Tensor, int, str]:
    (sample,) = model.predict(batch['inputs'], batch['data_samples'], rescale=False)
    found = sample.pred_instances
    scores, labels, boxes = found.scores, found.labels, found.bboxes
    if point is not None:
        x, y = point
        holds = (boxes[:, 0] <= x) & (x < boxes[:, 2]) & (boxes[:, 1] <= y) & (y < boxes[:, 3])
        scores, labels = scores[holds], labels[holds]
    place = 'in this image' if point is None else 'at this point'
    if wanted is None:
        if not len(scores):
            raise ValueError(f'The model detects nothing {place}: there is nothing to explain.')
        certain = labels[scores >= _MIN_SCORE]
        counts = torch.bincount(certain if len(certain) else labels[:1])
        wanted = int(counts.argmax())
    scores = scores[labels == wanted]
    if not len(scores):
        present = ', '.join(classes[i] for i in labels.unique().tolist()) or 'nothing'
        raise ValueError(
            f'The model detects no {classes[wanted]!r} {place}. Detected are: {present}.'
        )
    kept = scores[scores >= _MIN_SCORE] if scores.max() >= _MIN_SCORE else scores.max()[None]
    text = f'scores of {len(kept)} detections of {classes[wanted]!r}'
    return kept.sum(), wanted, text
