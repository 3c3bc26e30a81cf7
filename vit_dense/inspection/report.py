"""Inspect one image: run a model on it, and draw what `inspection` finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbones import PlainViT, TimmPyramid, TimmViT
from ..data.pictures import Picture
from .attention import Recording, record, rollout
from .features import inside, principal_colours, to_image
from .relevance import METHODS, Relevance, explain
from .sheet import (
    grid_width,
    head_grid,
    heat,
    heat_overlay,
    mark_point,
    page_wide,
    section,
    text_section,
)

_STRIDES = (4, 8, 16, 32)
_WIDTH = 640  # of single pictures
_GRID_WIDTH = 160  # of the pictures in a table of heads


@dataclass(frozen=True)
class Subject:
    """A model and one image.

    Attributes:
        model: A segmentor or detector in eval mode, with `backbone`.
        batch: `inputs` (1, C, H, W) and `data_samples`, as its data preprocessor returns them.
        image: (H, W, 3) uint8 RGB, the original image.
        classes: Class names.
        point: (x, y) in pixels of the original image.
        weights: Where the weights are from, for the captions.
        prediction: The image with the prediction, RGB.
    """

    model: Any
    batch: dict[str, Any]
    image: Picture
    classes: Sequence[str]
    point: tuple[int, int]
    weights: str
    prediction: Picture

    @property
    def shown(self) -> tuple[int, int]:
        """(H, W) of the image in `inputs`, without padding."""
        height, width = self.batch['data_samples'][0].metainfo['img_shape'][:2]
        return int(height), int(width)

    @property
    def input_point(self) -> tuple[int, int]:
        """The point in pixels of `inputs`."""
        (height, width), (full_height, full_width) = self.shown, self.image.shape[:2]
        x, y = self.point
        return int((x + 0.5) * width / full_width), int((y + 0.5) * height / full_height)

    @property
    def vit(self) -> TimmViT | None:
        """The ViT of the backbone."""
        found = getattr(self.model.backbone, 'vit', None)
        return found if isinstance(found, TimmViT) else None

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the maps of the backbone."""
        backbone = self.model.backbone
        if isinstance(backbone, PlainViT):
            return (backbone.vit.patch_size,) * backbone.num_maps
        if self.vit is not None or isinstance(backbone, TimmPyramid):
            return _STRIDES
        raise ValueError(
            f'vit-dense inspect has no pictures for backbone.type={type(backbone).__name__!r}: '
            'it takes TimmPyramid, PlainViT and adapters around TimmViT.'
        )

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of single pictures."""
        height, width = self.image.shape[:2]
        factor = _WIDTH / width
        return max(1, round(height * factor)), _WIDTH

    @property
    def background(self) -> Picture:
        """The image in the size of single pictures."""
        height, width = self.size
        method = cv2.INTER_AREA if width < self.image.shape[1] else cv2.INTER_CUBIC
        return cv2.resize(self.image, (width, height), interpolation=method).astype(np.uint8)

    def mark(self, picture: Picture) -> Picture:
        """Mark the point in a single picture."""
        (height, width), (full_height, full_width) = self.size, self.image.shape[:2]
        x, y = self.point
        place = int((x + 0.5) * width / full_width), int((y + 0.5) * height / full_height)
        return mark_point(picture, place)

    def draw(self, values: Tensor, stride: int, *, smooth: bool = False) -> Any:
        """Enlarge (h, w) values to single pictures' size."""
        cells = inside(values, stride, self.shown).float().cpu().numpy()
        return to_image(cells, stride, self.shown, self.size, smooth=smooth)


def inspect_image(
    subject: Subject,
    *,
    wanted: int | None = None,
    at_point: bool = False,
    method: str = 'hirescam',
) -> tuple[Picture, dict[str, Picture], list[str]]:
    """Draw features, attention and relevance.

    Args:
        subject: The model and the image.
        wanted: Class to explain; default: the most frequent one of the prediction.
        at_point: Explain the prediction at the point, instead of that of the whole image.
        method: As for `explain`.

    Returns:
        The sheet; the single pictures by name; what could not be shown, and why.

    Raises:
        ValueError: The backbone is not of this package.
    """
    singles: dict[str, Picture] = {'image': subject.mark(subject.background)}
    notes: list[str] = []
    strides, vit = subject.strides, subject.vit
    recording = None
    with torch.no_grad():
        if vit is None:
            maps = subject.model.backbone(subject.batch['inputs'])
        else:
            recording, maps = _record(subject, vit, notes)
    parts = [_features(subject, maps, strides, recording, singles)]
    if recording is not None and vit is not None and recording.rows:
        parts += _attention(subject, vit, recording, singles, notes)
    try:
        point = subject.input_point if at_point else None
        found = explain(
            subject.model,
            subject.batch,
            subject.classes,
            wanted=wanted,
            point=point,
            method=method,
        )
    except ValueError as error:
        if wanted is not None:
            raise
        notes.append(str(error))
    else:
        title = f'Relevance ({METHODS[method]})'
        parts.insert(0, _relevance(subject, found, strides, singles, title, marks=at_point))
    if notes:
        parts.append(text_section('Not shown', '\n'.join(notes)))
    return np.vstack(parts), singles, notes


def _record(subject: Subject, vit: TimmViT, notes: list[str]) -> tuple[Recording, Sequence[Tensor]]:
    """Run the backbone; without attention, and with a note, where the family has none."""
    x, y = subject.input_point
    image = subject.batch['inputs']
    across = -(-image.shape[-1] // vit.patch_size)
    patch = vit.num_prefix_tokens + y // vit.patch_size * across + x // vit.patch_size
    try:
        with record(vit, [patch, *range(vit.num_prefix_tokens)]) as recording:
            return recording, subject.model.backbone(image)
    except ValueError as error:
        notes.append(str(error))
    with record(vit, attention=False) as recording:
        return recording, subject.model.backbone(image)


def _relevance(
    subject: Subject,
    found: Relevance,
    strides: Sequence[int],
    singles: dict[str, Picture],
    title: str,
    *,
    marks: bool,
) -> Picture:
    """Draw each map's relevance, and their sum per pixel."""
    drawn = [subject.draw(x, s, smooth=True) for x, s in zip(found.maps, strides, strict=True)]
    inner = [inside(x, s, subject.shown) for x, s in zip(found.maps, strides, strict=True)]
    totals = [float(x.sum()) for x in inner]
    # a cell of a coarse map covers more pixels
    density = sum(x / s**2 for x, s in zip(drawn, strides, strict=True))
    singles['relevance'] = heat_overlay(subject.background, density)
    if marks:
        singles['relevance'] = subject.mark(singles['relevance'])
    image = singles['image']
    top = [
        (image, f'the image; the ring is at pixel {subject.point[0]},{subject.point[1]}'),
        (subject.prediction, f'the prediction. {subject.weights}'),
        (singles['relevance'], f'relevance, all maps together, for the {found.target}'),
    ]
    below = []
    for number, (x, stride, total) in enumerate(zip(drawn, strides, totals, strict=True)):
        key = f'relevance_map{number}_stride{stride}'
        singles[key] = heat_overlay(subject.background, x)
        share = total / max(sum(totals), 1e-12)
        below.append((singles[key], f'map {number}, stride {stride}: {share:.0%} of the evidence'))
    name = subject.classes[found.class_index]
    return section(f'{title} for the class {name!r}', [top, below])


def _features(
    subject: Subject,
    maps: Sequence[Tensor],
    strides: Sequence[int],
    recording: Recording | None,
    singles: dict[str, Picture],
) -> Picture:
    """Draw principal components of the maps and of the ViT's tokens."""
    of_maps, of_tokens = [], []
    for number, (feature_map, stride) in enumerate(zip(maps, strides, strict=True)):
        name = f'features_map{number}_stride{stride}'
        singles[name] = _components(subject, feature_map[0], stride)
        text = f'map {number} of the backbone, stride {stride}, {feature_map.shape[1]} channels'
        of_maps.append((singles[name], text))
    if recording is not None and subject.vit is not None:
        vit = subject.vit
        for index, tokens in enumerate(recording.tokens):
            patches = F.layer_norm(tokens[vit.num_prefix_tokens :], tokens.shape[-1:])
            tokens_map = patches.T.unflatten(1, recording.grid)
            singles[f'tokens_block{index:02d}'] = _components(subject, tokens_map, vit.patch_size)
        for index in _spread(len(recording.tokens), 4):
            text = f'tokens of the ViT after block {index}, patches of {vit.patch_size}'
            of_tokens.append((singles[f'tokens_block{index:02d}'], text))
    rows = [row for row in (of_maps, of_tokens) if row]
    return section('Features: the first three principal components as red, green, blue', rows)


def _components(subject: Subject, feature_map: Tensor, stride: int) -> Picture:
    colours = principal_colours(inside(feature_map, stride, subject.shown))
    picture: Picture = to_image(colours, stride, subject.shown, subject.size).astype(np.uint8)
    return picture


def _attention(
    subject: Subject,
    vit: TimmViT,
    recording: Recording,
    singles: dict[str, Picture],
    notes: list[str],
) -> list[Picture]:
    """Draw attention of the point and of each prefix token: per head, averaged, rolled out."""
    prefix, parts = vit.num_prefix_tokens, []
    x, y = subject.input_point
    patch = prefix + y // vit.patch_size * recording.grid[1] + x // vit.patch_size
    rolled = None
    if vit.family.no_rollout:
        notes.append(f'{vit.model_name!r} has no attention rollout: {vit.family.no_rollout}.')
    else:
        rolled = rollout(recording.means, [patch, *range(prefix)])
    labels = ['the patch at the point', *vit.family.prefix_names(vit.model)]
    for number, label in enumerate(labels):
        key = 'point' if number == 0 else label.replace(' ', '_')
        mark = subject.mark if number == 0 else _unchanged
        blocks = [
            [_attended(subject, vit, row, recording) for row in rows[:, number]]
            for rows in recording.rows
        ]
        drawn = [[mark(heat(values)) for values in heads] for heads in blocks]
        singles[f'attention_{key}'] = head_grid(drawn, _GRID_WIDTH)
        cells = []
        if rolled is not None:
            values = _attended(subject, vit, rolled[number], recording)
            singles[f'rollout_{key}'] = mark(heat_overlay(subject.background, values))
            cells.append((singles[f'rollout_{key}'], f'rollout over all {vit.depth} blocks'))
        for index in _spread(vit.depth, 4):
            picture = mark(heat_overlay(subject.background, np.mean(blocks[index], axis=0)))
            singles[f'attention_{key}_block{index:02d}'] = picture
            window = vit.windows[index]
            where = f', windows of {window}' if window is not None else ''
            cells.append((picture, f'block {index}, mean of the heads{where}'))
        parts.append(section(f'Attention of {label}', [cells]))
        if number <= 1:
            parts.append(page_wide(head_grid(drawn, grid_width(vit.depth))))
    return parts


def _attended(subject: Subject, vit: TimmViT, row: Tensor, recording: Recording) -> Any:
    """Draw attention (P + h*w,) to the patches, without that to prefix tokens."""
    values = row[vit.num_prefix_tokens :].clamp(min=0).unflatten(0, recording.grid)
    return subject.draw(values, vit.patch_size, smooth=True)


def _unchanged(picture: Picture) -> Picture:
    return picture


def _spread(count: int, wanted: int) -> list[int]:
    """Return up to `wanted` indices of `count`, evenly spread, the last included."""
    wanted = min(count, wanted)
    return [count * (i + 1) // wanted - 1 for i in range(wanted)]
