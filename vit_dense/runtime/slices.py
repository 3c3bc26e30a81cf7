"""Find small objects in large images: detect in slices and merge, with the package `sahi`.

Slicing Aided Hyper Inference, Akyon et al. 2022. Every slice is resized as the test pipeline says,
so that small objects become larger for the model than in the whole image.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .inputs import InputError, Item
from .predictor import PredictOptions, Predictor, input_error
from .results import Detections, Result

# Boxes of one class are one object if their intersection covers this share of the smaller one:
# IOS of sahi, which also holds for an object that a slice cuts.
_SAME_OBJECT = 0.5
_WHOLE_EDGE = 2048  # px; a larger image is reduced to this before it is predicted as a whole
_MASK_BYTES = 2 * 2**30


@dataclass(frozen=True, kw_only=True)
class SliceOptions:
    """How to cut an image into slices, and what to keep.

    Args:
        slice_size: Edge of a slice, in pixels.
        overlap: Share of a slice that the next one covers too; larger than the objects.
        score_threshold: Objects with lower scores are dropped before merging.
        whole: Whether to predict the whole image as well, for objects larger than a slice.
        masks: Whether to keep masks.
        batch_size: Maximum number of slices that run together.
        dtype: As for `Predictor.predict`.
        channel_order: 'bgr' or 'rgb', of an array.
    """

    slice_size: int
    overlap: float = 0.2
    score_threshold: float = 0.3
    whole: bool = True
    masks: bool = True
    batch_size: int = 8
    dtype: str | None = None
    channel_order: str = 'bgr'

    def __post_init__(self) -> None:
        if self.slice_size < 1 or not 0 <= self.overlap < 1:
            raise ValueError(
                f'slice_size={self.slice_size}, overlap={self.overlap}: give at least 1 pixel, and '
                'a share of 0 or more and below 1.'
            )


@dataclass(frozen=True)
class _Part:
    """A part of the image, and the factor from its pixels to those of the image."""

    item: Item
    number: int
    left: int = 0
    top: int = 0
    factor: tuple[float, float] = (1.0, 1.0)  # x, y


@dataclass(frozen=True)
class _Object:
    """A box in pixels of the image, and the mask inside its outer pixels.

    `parts` are the numbers of the slices that show it.
    """

    parts: frozenset[int]
    box: NDArray[np.float64]
    score: float
    label: int
    mask: NDArray[np.bool_] | None
    corner: tuple[int, int]  # of the mask: x, y


def predict_sliced(
    predictor: Predictor, image: str | Path | NDArray[Any], options: SliceOptions
) -> Detections:
    """Detect objects in overlapping slices of an image and merge them.

    Args:
        predictor: A model for detection.
        image: A path, or an array `(H, W, C)`.
        options: Size of the slices, and what to keep.

    Returns:
        Boxes in pixels of the image, the most certain first. An object that several slices show
        has the box around all of its boxes, the highest score and the union of the masks.

    Raises:
        ValueError: The image cannot be read or predicted, `sahi` is not installed, or the masks
            need more than 2 GiB.
    """
    if predictor.task != 'detection':
        raise ValueError(
            'Slices are for detection, and this model segments: use --tile (predict_tiled).'
        )
    slicing, combine = _import_sahi()
    order = options.channel_order
    pixels = image if isinstance(image, np.ndarray) else predictor.read(str(image))
    if not isinstance(image, np.ndarray):
        order = 'bgr'
    height, width = pixels.shape[:2]
    edge, share = options.slice_size, options.overlap
    corners = slicing.get_slice_bboxes(
        height, width, edge, edge, overlap_height_ratio=share, overlap_width_ratio=share
    )
    found: list[_Object] = []
    parts = _parts(pixels, corners, order, whole=options.whole)
    for part, result in _predict(predictor, parts, options):
        found += _objects(part, result, options, (height, width))
    merged = sorted(_merge(found, combine), key=lambda one: -one.score)
    return Detections(
        boxes=np.array([one.box for one in merged], np.float32).reshape(-1, 4),
        scores=np.array([one.score for one in merged], np.float32),
        labels=np.array([one.label for one in merged], np.int64),
        size=(height, width),
        classes=predictor.classes,
        palette=predictor.palette,
        masks=_masks(merged, (height, width)),
        image=_picture(image, pixels, order),
    )


def iter_sliced(
    predictor: Predictor, items: Iterable[Item], options: SliceOptions
) -> Iterator[tuple[Item, Result | InputError]]:
    """Yield each image with its objects, or with why it has none."""
    for item in items:
        source: Any = item.array if item.path is None else item.path
        known = replace(options, channel_order=item.channel_order or options.channel_order)
        try:
            yield item, predict_sliced(predictor, source, known)
        except (OSError, MemoryError, ValueError) as error:
            yield item, input_error(item, error)


def _import_sahi() -> tuple[Any, Any]:
    try:
        from sahi import slicing
        from sahi.postprocess import combine
    except ImportError as error:
        raise ValueError('Slices need the package sahi: pip install "vit_dense[slice]".') from error
    return slicing, combine


def _parts(
    pixels: NDArray[Any], corners: Sequence[Sequence[int]], order: str, *, whole: bool
) -> Iterator[_Part]:
    for number, (left, top, right, bottom) in enumerate(corners):
        array = np.ascontiguousarray(pixels[top:bottom, left:right])
        item = Item(f'slice at x={left} y={top}', array=array, channel_order=order)
        yield _Part(item, number, left, top)
    if whole and len(corners) > 1:
        height, width = pixels.shape[:2]
        scale = min(1.0, _WHOLE_EDGE / max(height, width))
        size = max(round(width * scale), 1), max(round(height * scale), 1)
        small = pixels if scale == 1 else cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        item = Item('whole image', array=small, channel_order=order)
        yield _Part(item, len(corners), factor=(width / size[0], height / size[1]))


def _predict(
    predictor: Predictor, parts: Iterator[_Part], options: SliceOptions
) -> Iterator[tuple[_Part, Detections]]:
    """Yield the parts with their results, a batch at a time."""
    settings = PredictOptions(options.batch_size, dtype=options.dtype)
    while batch := list(islice(parts, options.batch_size)):
        results = predictor.iter_predictions((part.item for part in batch), settings)
        for part, (_, result) in zip(batch, results, strict=True):
            if not isinstance(result, Detections):
                raise ValueError(getattr(result, 'message', 'a slice has no detections'))
            yield part, result


def _objects(
    part: _Part, result: Detections, options: SliceOptions, size: tuple[int, int]
) -> Iterator[_Object]:
    """Yield the objects of a part in pixels of the image."""
    factor = np.array(part.factor * 2)
    shift = np.array([part.left, part.top] * 2)
    result = result.select(score_threshold=options.score_threshold)
    for index, box in enumerate(result.boxes.astype(np.float64)):
        mask, corner = None, (0, 0)
        if options.masks and result.masks is not None:
            mask, corner = _crop_mask(result.masks[index], part, size)
        score, label = float(result.scores[index]), int(result.labels[index])
        parts = frozenset([part.number])
        yield _Object(parts, box * factor + shift, score, label, mask, corner)


def _crop_mask(
    mask: NDArray[np.bool_], part: _Part, size: tuple[int, int]
) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """Return the mask in pixels of the image, cut to its outer pixels, and its corner (x, y)."""
    if part.factor != (1.0, 1.0):
        resized = cv2.resize(mask.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST)
        mask = resized.astype(bool)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return np.zeros((0, 0), bool), (part.left, part.top)
    cut = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].copy()
    return cut, (part.left + int(columns[0]), part.top + int(rows[0]))


def _merge(found: list[_Object], combine: Any) -> list[_Object]:
    """Merge until nothing changes: a merged box can cover parts that its first box did not."""
    count = -1
    while len(found) != count:
        count = len(found)
        found = _merge_once(found, combine)
    return found


def _merge_once(pool: list[_Object], combine: Any) -> list[_Object]:
    """Merge objects that sahi finds to be one, but never two of one slice.

    The model has decided there that they are different; sahi would merge an object with a larger
    one of its class behind it.
    """
    merged: list[_Object] = []
    while pool:
        table = np.array([[*one.box, one.score, one.label] for one in pool])
        others: list[_Object] = []
        for kept, matches in combine.batched_greedy_nmm(table, 'IOS', _SAME_OBJECT).items():
            group = [pool[kept]]
            # Of several in another slice, the one that matches best.
            for match in sorted((pool[i] for i in matches), key=lambda m: -_iou(m, group[0])):
                fits = all(match.parts.isdisjoint(one.parts) for one in group)
                (group if fits else others).append(match)
            merged.append(_union(group))
        pool = others
    return merged


def _iou(one: _Object, other: _Object) -> float:
    low = np.maximum(one.box[:2], other.box[:2])
    high = np.minimum(one.box[2:], other.box[2:])
    shared = float((high - low).clip(0).prod())
    areas = float(sum((each.box[2:] - each.box[:2]).prod() for each in (one, other)))
    return shared / max(areas - shared, 1e-9)


def _union(group: list[_Object]) -> _Object:
    """Return one object for several; the first has the highest score."""
    boxes = np.array([one.box for one in group])
    box = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
    parts = frozenset().union(*(one.parts for one in group))
    masks = [(one.mask, one.corner) for one in group if one.mask is not None and one.mask.size]
    if not masks:
        return replace(group[0], parts=parts, box=box)
    left = min(x for _, (x, _) in masks)
    top = min(y for _, (_, y) in masks)
    right = max(x + mask.shape[1] for mask, (x, _) in masks)
    bottom = max(y + mask.shape[0] for mask, (_, y) in masks)
    union = np.zeros((bottom - top, right - left), bool)
    for mask, (x, y) in masks:
        union[y - top : y - top + mask.shape[0], x - left : x - left + mask.shape[1]] |= mask
    return replace(group[0], parts=parts, box=box, mask=union, corner=(left, top))


def _masks(merged: list[_Object], size: tuple[int, int]) -> NDArray[np.bool_] | None:
    if not any(one.mask is not None for one in merged):
        return None
    needed = len(merged) * size[0] * size[1]
    if needed > _MASK_BYTES:
        raise ValueError(
            f'The masks of {len(merged)} objects in an image of {size[1]}x{size[0]} pixels need '
            f'{needed / 2**30:.1f} GiB. Raise score_threshold (--score-threshold), or leave masks '
            'out (masks=False).'
        )
    masks = np.zeros((len(merged), *size), bool)
    for target, one in zip(masks, merged, strict=True):
        if one.mask is not None:
            (x, y), (height, width) = one.corner, one.mask.shape
            target[y : y + height, x : x + width] = one.mask
    return masks


def _picture(image: str | Path | NDArray[Any], pixels: NDArray[Any], order: str) -> Any:
    """Return what `Detections.image` is: a path, or RGB."""
    if not isinstance(image, np.ndarray):
        return str(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        return None
    return pixels[..., ::-1] if order == 'bgr' else pixels
