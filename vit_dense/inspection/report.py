"""Inspect one image: run a model on it, and draw what `inspection` finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
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
            return (backbone.vit.patch_size,) * len(backbone.out_indices)
        has_maps = self.vit is not None and type(backbone).__name__ != 'EoMT'
        if has_maps or isinstance(backbone, TimmPyramid):
            return _STRIDES
        raise ValueError(
            f'vit-dense inspect has no pictures for backbone.type={type(backbone).__name__!r}: '
            'it takes TimmPyramid, PlainViT and adapters around TimmViT.'
        )

    def queries(self, vit: TimmViT) -> list[int]:
        """Return the patch at the point and the prefix tokens, as indices of tokens."""
        (x, y), patch, prefix = self.input_point, vit.patch_size, vit.num_prefix_tokens
        across = -(-self.batch['inputs'].shape[-1] // patch)
        return [prefix + y // patch * across + x // patch, *range(prefix)]

    def size(self, width: int = _WIDTH) -> tuple[int, int]:
        """Return (H, W) of pictures of this width."""
        height, full_width = self.image.shape[:2]
        return max(1, round(height * width / full_width)), width

    def background(self) -> Picture:
        """Return the image in the size of single pictures."""
        height, width = self.size()
        method = cv2.INTER_AREA if width < self.image.shape[1] else cv2.INTER_CUBIC
        return cv2.resize(self.image, (width, height), interpolation=method).astype(np.uint8)

    def mark(self, picture: Picture) -> Picture:
        """Mark the point in a picture of the whole image."""
        (height, width), (full_height, full_width) = picture.shape[:2], self.image.shape[:2]
        x, y = self.point
        place = int((x + 0.5) * width / full_width), int((y + 0.5) * height / full_height)
        return mark_point(picture, place)

    def draw(self, values: Tensor, stride: int, width: int = _WIDTH) -> NDArray[np.floating]:
        """Interpolate (h, w) values of a map in a picture of this width."""
        cells = inside(values, stride, self.shown).float().cpu().numpy()
        return to_image(cells, stride, self.shown, self.size(width), smooth=True)


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
    strides, vit = subject.strides, subject.vit
    singles = {'image': subject.mark(subject.background())}
    notes: list[str] = []
    parts = [_overview(subject, strides, singles, notes, wanted, at_point=at_point, method=method)]
    recording = None
    with torch.no_grad():
        if vit is None:
            maps = subject.model.backbone(subject.batch['inputs'])
        else:
            recording, maps = _record(subject, vit, notes)
    maps = [x if isinstance(x, Tensor) else x[0] for x in maps]  # without cls tokens
    parts.append(_features(subject, maps, strides, recording, singles))
    if recording is not None and vit is not None and recording.rows:
        parts += _attention(subject, vit, recording, singles, notes)
    if notes:
        parts.append(text_section('Not shown', '\n'.join(notes)))
    return np.vstack(parts), singles, notes


def _record(subject: Subject, vit: TimmViT, notes: list[str]) -> tuple[Recording, Sequence[Tensor]]:
    """Run the backbone; without attention, and with a note, where the family has none."""
    backbone, image = subject.model.backbone, subject.batch['inputs']
    try:
        with record(vit, subject.queries(vit)) as recording:
            return recording, backbone(image)
    except ValueError as error:
        notes.append(str(error))
    with record(vit, attention=False) as recording:
        return recording, backbone(image)


def _overview(
    subject: Subject,
    strides: Sequence[int],
    singles: dict[str, Picture],
    notes: list[str],
    wanted: int | None,
    *,
    at_point: bool,
    method: str,
) -> Picture:
    """Draw the image, the prediction, and the relevance; a note if there is nothing to explain."""
    x, y = subject.point
    top = [
        (singles['image'], f'the image; the ring is at pixel {x},{y}'),
        (subject.prediction, f'the prediction. {subject.weights}'),
    ]
    point = subject.input_point if at_point else None
    try:
        found = explain(
            subject.model, subject.batch, subject.classes, wanted=wanted, point=point, method=method
        )
    except ValueError as error:
        if wanted is not None:
            raise
        notes.append(str(error))
        return section('Image and prediction', [top])
    below = _relevance(subject, found, strides, singles)
    together = subject.mark(singles['relevance']) if at_point else singles['relevance']
    top.append((together, f'relevance, all maps together, for the {found.target}'))
    name = subject.classes[found.class_index]
    return section(f'Relevance ({METHODS[method]}) for the class {name!r}', [top, below])


def _relevance(
    subject: Subject, found: Relevance, strides: Sequence[int], singles: dict[str, Picture]
) -> list[tuple[Picture, str]]:
    """Draw each map's relevance, and their sum."""
    background = subject.background()
    drawn = [subject.draw(x, s) for x, s in zip(found.maps, strides, strict=True)]
    inner = [inside(x, s, subject.shown) for x, s in zip(found.maps, strides, strict=True)]
    totals = [float(x.sum()) for x in inner]
    # What a pixel adds: a cell of a coarse map covers more of them.
    density = np.sum([x / s**2 for x, s in zip(drawn, strides, strict=True)], axis=0)
    singles['relevance'] = heat_overlay(background, density)
    cells = []
    for number, (x, stride, total) in enumerate(zip(drawn, strides, totals, strict=True)):
        key = f'relevance_map{number}_stride{stride}'
        singles[key] = heat_overlay(background, x)
        share = total / max(sum(totals), 1e-12)
        cells.append((singles[key], f'map {number}, stride {stride}: {share:.0%} of the evidence'))
    return cells


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
    picture: Picture = to_image(colours, stride, subject.shown, subject.size()).astype(np.uint8)
    return picture


def _attention(
    subject: Subject,
    vit: TimmViT,
    recording: Recording,
    singles: dict[str, Picture],
    notes: list[str],
) -> list[Picture]:
    """Draw attention of the point and of each prefix token: per head, averaged, rolled out."""
    parts, rolled = [], None
    if vit.family.no_rollout:
        notes.append(f'{vit.model_name!r} has no attention rollout: {vit.family.no_rollout}.')
    else:
        rolled = rollout(recording.means, subject.queries(vit))
    background = subject.background()
    for number, label in enumerate(['patch at the point', *vit.family.prefix_names(vit.model)]):
        key = 'point' if number == 0 else label.replace(' ', '_')
        mark = subject.mark if number == 0 else _unchanged
        rows = [_to_patches(block[:, number], vit, recording) for block in recording.rows]
        overlays = {}
        if rolled is not None:
            name = f'rollout over all {len(rows)} blocks'
            overlays[f'rollout_{key}'] = (_to_patches(rolled[number], vit, recording), name)
        for index in _spread(len(rows), 4):
            window = vit.windows[index]
            where = '' if window is None else f', windows of {window}'
            name = f'block {index}, mean of the heads{where}'
            overlays[f'attention_{key}_block{index:02d}'] = (rows[index].mean(0), name)
        cells = []
        for file, (values, name) in overlays.items():
            drawn = subject.draw(values, vit.patch_size)
            singles[file] = mark(heat_overlay(background, drawn))
            cells.append((singles[file], f'{name}; up to {float(values.max()):.1%} for a patch'))
        heads = [
            [mark(heat(subject.draw(head, vit.patch_size, _GRID_WIDTH))) for head in row]
            for row in rows
        ]
        singles[f'attention_{key}'] = head_grid(heads, _GRID_WIDTH)
        parts.append(section(f'Attention: {label}', [cells]))
        if number <= 1:  # registers: in single pictures only
            parts.append(page_wide(head_grid(heads, grid_width(vit.depth))))
    return parts


def _to_patches(attention: Tensor, vit: TimmViT, recording: Recording) -> Tensor:
    """Return (..., h, w) of attention (..., P + h*w), without that to prefix tokens."""
    return attention[..., vit.num_prefix_tokens :].clamp(min=0).unflatten(-1, recording.grid)


def _unchanged(picture: Picture) -> Picture:
    return picture


def _spread(count: int, wanted: int) -> list[int]:
    """Return up to `wanted` indices of `count`, evenly spread, the last included."""
    wanted = min(count, wanted)
    return [count * (i + 1) // wanted - 1 for i in range(wanted)]
