"""Draw label maps: coloured overlays, sheets of several pictures, a legend."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Colours = Sequence[Sequence[int]]

_GAP = 4
_WHITE = 255
_HUES = 6


def complete_palette(palette: Colours | None, count: int) -> list[list[int]]:
    """Return `count` RGB colours: those given, and others where there are fewer."""
    given = [[int(level) for level in rgb] for rgb in (() if palette is None else palette)][:count]
    return given + [_spread_colour(index) for index in range(len(given), count)]


def overlay(
    image: Picture,
    labels: NDArray[np.number],
    palette: Colours,
    *,
    opacity: float = 0.6,
) -> Picture:
    """Blend class colours with an image.

    Args:
        image: `(H, W, 3)`, RGB.
        labels: `(h, w)` class indices, of any numeric type; resized to the image if the sizes
            differ. Values without a colour (void) leave the image visible.
        palette: RGB of each class.
        opacity: Share of the colour, 0..1.
    """
    # mmseg predicts one channel as floating-point 0 and 1.
    indices: NDArray[np.int32] = labels.astype(np.int32)
    if indices.shape != image.shape[:2]:
        size = (image.shape[1], image.shape[0])
        resized = cv2.resize(indices, size, interpolation=cv2.INTER_NEAREST)
        indices = resized.astype(np.int32)
    known = (indices >= 0) & (indices < len(palette))
    colours = np.asarray(palette, np.float32)[np.where(known, indices, 0)]
    mixed = (1 - opacity) * image + opacity * colours
    return np.where(known[..., None], np.round(mixed), image).astype(np.uint8)


def side_by_side(pictures: Sequence[Picture]) -> Picture:
    """Return `(H, W, 3)` pictures of equal height in a row, with a white gap between them."""
    gap = np.full((pictures[0].shape[0], _GAP, 3), _WHITE, np.uint8)
    parts: list[Picture] = []
    for picture in pictures:
        parts += [picture, gap]
    return np.hstack(parts[:-1])


def sheet(rows: Sequence[Picture], columns: int = 2) -> Picture:
    """Return one picture with pictures of any size in rows of `columns`."""
    height = max(row.shape[0] for row in rows) + _GAP
    width = max(row.shape[1] for row in rows) + _GAP
    lines = -(-len(rows) // columns)
    page = np.full((lines * height + _GAP, min(columns, len(rows)) * width + _GAP, 3), _WHITE)
    page = page.astype(np.uint8)
    for index, row in enumerate(rows):
        top = (index // columns) * height + _GAP
        left = (index % columns) * width + _GAP
        page[top : top + row.shape[0], left : left + row.shape[1]] = row
    return page


def legend(classes: Sequence[str], palette: Colours, width: int) -> Picture:
    """Return a strip `width` pixels wide with the name of each colour."""
    font, scale, line = cv2.FONT_HERSHEY_SIMPLEX, 0.45, 22
    places: list[tuple[int, int]] = []
    left, row = _GAP, 0
    for name in classes:
        advance = 20 + cv2.getTextSize(name, font, scale, 1)[0][0] + 14
        if left + advance > width and left > _GAP:
            left, row = _GAP, row + 1
        places.append((left, row * line))
        left += advance
    strip = np.full(((row + 1) * line, width, 3), _WHITE, np.uint8)
    for name, colour, (x, y) in zip(classes, palette, places, strict=False):
        strip[y + 4 : y + 18, x : x + 14] = colour
        cv2.putText(strip, name, (x + 20, y + 16), font, scale, (0, 0, 0), 1, cv2.LINE_AA)
    return strip


def _spread_colour(index: int) -> list[int]:
    """Return a colour for class `index`, with a hue far from those of `index - 1` and `+ 1`."""
    step, turn = index % _HUES, index // _HUES
    hue = (step * 180 // _HUES + turn * 11) % 180
    pixel = np.array([[[hue, 255 - 60 * (turn % 3), 230 - 40 * (turn % 4)]]], np.uint8)
    return [int(level) for level in cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0]]
