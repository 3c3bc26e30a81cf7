"""Compare what an exported file predicts with the model before export, on images."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..runtime import Detections, Predictor, Segmentation

MAX_SCORE_ERROR = 1e-3
MAX_LABEL_SHARE = 1e-3  # 0.1 %
_SAME_BOX = 0.9  # IoU of a detection and its counterpart


@dataclass(frozen=True)
class Proof:
    """How far an exported file is from its model.

    Args:
        images: Number of images compared.
        score_error: Largest difference of a probability.
        label_share: Share of pixels with another label; of detections without a counterpart.
        box_error: Largest difference of a box edge, in pixels (detection).
        compared: Number of pixels or detections compared.
    """

    images: int = 0
    score_error: float = 0.0
    label_share: float = 0.0
    box_error: float = 0.0
    compared: int = 0

    @property
    def holds(self) -> bool:
        """Whether the file may be written: False also if there was nothing to compare."""
        is_equal = self.score_error <= MAX_SCORE_ERROR and self.label_share <= MAX_LABEL_SHARE
        return is_equal and self.compared > 0

    def plus(self, other: 'Proof') -> 'Proof':
        """Return both together: the larger errors, and the share of all that was compared."""
        total = self.compared + other.compared
        differing = self.label_share * self.compared + other.label_share * other.compared
        return replace(
            self,
            images=self.images + other.images,
            score_error=float(np.fmax(self.score_error, other.score_error)),
            label_share=differing / max(1, total),
            box_error=max(self.box_error, other.box_error),
            compared=total,
        )


def compare(model: Predictor, exported: Predictor, images: Iterable[NDArray[np.uint8]]) -> Proof:
    """Predict images with both and compare.

    Args:
        model: The model before export.
        exported: The file, as users run it.
        images: `(H, W, 3)` uint8, BGR.
    """
    pictures = list(images)
    theirs = exported.predict(pictures, batch_size=2, scores=True)
    proof = Proof()
    for picture, found in zip(pictures, theirs, strict=True):
        proof = proof.plus(_compare_one(model.predict(picture, scores=True), found))
    return proof


def _compare_one(expected: Segmentation | Detections, found: Segmentation | Detections) -> Proof:
    if isinstance(expected, Segmentation):
        assert isinstance(found, Segmentation)
        assert expected.scores is not None
        assert found.scores is not None
        error = np.abs(expected.scores - found.scores).max()
        differing = expected.labels != found.labels
        return Proof(1, _or_infinite(error), float(differing.mean()), 0.0, differing.size)
    assert isinstance(found, Detections)
    return _compare_detections(expected, found)


def _compare_detections(expected: Detections, found: Detections) -> Proof:
    """Pair each detection with the one of its class that overlaps it most.

    Scores at the limit may fall on either side of it, so that a detection without counterpart is no
    difference if its score is as low as the lowest of the others.
    """
    limits = [side.scores.min(initial=np.inf) + MAX_SCORE_ERROR for side in (found, expected)]
    missing, score_error, box_error = 0, 0.0, 0.0
    for one, other, limit in ((expected, found, limits[0]), (found, expected, limits[1])):
        for i, (box, score, label) in enumerate(
            zip(one.boxes, one.scores, one.labels, strict=True)
        ):
            overlaps = np.where(other.labels == label, _iou(box, other.boxes), 0)
            best = int(overlaps.argmax()) if len(overlaps) else -1
            if best < 0 or overlaps[best] < _SAME_BOX:
                missing += bool(score > limit)
                continue
            score_error = max(score_error, _or_infinite(abs(score - other.scores[best])))
            box_error = max(box_error, float(np.abs(box - other.boxes[best]).max()))
            missing += not _same_mask(one, i, other, best)
    compared = len(expected) + len(found)
    return Proof(1, score_error, missing / max(1, compared), box_error, compared)


def _same_mask(one: Detections, i: int, other: Detections, j: int) -> bool:
    """Return whether two masks overlap as boxes must; empty ones equal each other."""
    if one.masks is None or other.masks is None:
        return one.masks is other.masks
    union = (one.masks[i] | other.masks[j]).sum()
    return bool((one.masks[i] & other.masks[j]).sum() >= _SAME_BOX * union)


def _iou(box: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    upper, lower = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = (lower - upper).clip(min=0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return shared / np.maximum((box[2:] - box[:2]).prod() + areas - shared, 1e-9)


def _or_infinite(error: float) -> float:
    """Return an error; a NaN is infinitely large."""
    return float(error) if np.isfinite(error) else float('inf')
