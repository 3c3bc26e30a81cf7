"""Draw the parts of an inspection and compose them to one sheet with captions."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ..data.pictures import Picture, sheet

PAGE_WIDTH = 1320
MARGIN = 12
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_INK, _PALE, _WHITE = (30, 30, 30), (232, 236, 242), 255
_LINE = 17
_TOP = 0.995
_SMALL, _LARGE = 0.42, 0.62


def heat(values: NDArray[np.floating]) -> Picture:
    """Return colours, uint8 RGB: black at 0, brightest at the 99.5th percentile and above."""
    top = float(np.quantile(values, _TOP)) or float(values.max())
    levels = np.clip(values / top if top > 0 else np.zeros_like(values), 0, 1)
    coloured = cv2.applyColorMap((levels * 255).round().astype(np.uint8), cv2.COLORMAP_INFERNO)
    return cv2.cvtColor(coloured, cv2.COLOR_BGR2RGB).astype(np.uint8)


def heat_overlay(image: Picture, values: NDArray[np.floating], *, opacity: float = 0.7) -> Picture:
    """Blend the colours of `heat` with a grey version of an image of the same size."""
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    mixed = (1 - opacity) * grey + opacity * heat(values)
    return mixed.round().astype(np.uint8)


def mark_point(picture: Picture, point: tuple[int, int]) -> Picture:
    """Return a copy with a ring around (x, y)."""
    marked = np.ascontiguousarray(picture).copy()
    radius = max(4, round(min(marked.shape[:2]) / 28))
    if radius > 8:  # in small pictures, a thin ring that leaves its inside visible
        cv2.circle(marked, point, radius, (0, 0, 0), radius // 2, cv2.LINE_AA)
    cv2.circle(marked, point, radius, (0, 255, 120), max(1, radius // 4), cv2.LINE_AA)
    return marked


def fit(picture: Picture, width: int) -> Picture:
    """Resize a picture to a width."""
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    shrinks = width < picture.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST
    return cv2.resize(picture, (width, height), interpolation=method).astype(np.uint8)


def caption(picture: Picture, text: str, width: int) -> Picture:
    """Return the picture at a width, with text in as many lines as it needs below."""
    lines = _wrap(text, width)
    strip = np.full((len(lines) * _LINE + 6, width, 3), _WHITE, np.uint8)
    for index, line in enumerate(lines):
        _write(strip, line, (1, 13 + index * _LINE), _SMALL)
    return np.vstack([fit(picture, width), strip])


def section(title: str, rows: Sequence[Sequence[tuple[Picture, str]]]) -> Picture:
    """Return a page-wide section: a title, and rows of pictures with captions."""
    parts = [_banner(title)]
    for row in rows:
        width = (PAGE_WIDTH - 2 * MARGIN) // len(row) - 6
        cells = [caption(picture, text, width) for picture, text in row]
        parts.append(page_wide(sheet(cells, len(cells))))
    return np.vstack(parts)


def text_section(title: str, text: str) -> Picture:
    """Return a page-wide section of text."""
    lines = _wrap(text, PAGE_WIDTH - 2 * MARGIN)
    strip = np.full((len(lines) * _LINE + 12, PAGE_WIDTH, 3), _WHITE, np.uint8)
    for index, line in enumerate(lines):
        _write(strip, line, (MARGIN, 18 + index * _LINE), _SMALL)
    return np.vstack([_banner(title), strip])


def head_grid(blocks: Sequence[Sequence[Picture]], width: int) -> Picture:
    """Return a numbered table of pictures: a column for each block, a row for each head.

    Args:
        blocks: One picture for each head of each block.
        width: Width of each picture.
    """
    left, top, gap = 56, 20, 3
    heads = max(len(block) for block in blocks)
    height = fit(blocks[0][0], width).shape[0]
    size = (top + heads * (height + gap), left + len(blocks) * (width + gap), 3)
    page = np.full(size, _WHITE, np.uint8)
    for head in range(heads):
        _write(page, f'head {head}', (0, top + head * (height + gap) + height // 2 + 4), 0.38)
    for column, block in enumerate(blocks):
        x = left + column * (width + gap)
        _write(page, f'block {column}' if width >= 56 else str(column), (x, 14), 0.38)
        for head, picture in enumerate(block):
            y = top + head * (height + gap)
            page[y : y + height, x : x + width] = fit(picture, width)
    return page


def grid_width(blocks: int) -> int:
    """Return the width of the pictures of a table that fills the page."""
    return max(16, min(200, (PAGE_WIDTH - 2 * MARGIN - 56) // blocks - 3))


def page_wide(picture: Picture) -> Picture:
    """Return the picture with white margins, as wide as the page."""
    room = PAGE_WIDTH - MARGIN - picture.shape[1]
    padding = ((8, 6), (MARGIN, max(0, room)), (0, 0))
    return np.pad(picture, padding, constant_values=_WHITE)[:, :PAGE_WIDTH]


def _banner(title: str) -> Picture:
    strip = np.full((34, PAGE_WIDTH, 3), _PALE, np.uint8)
    _write(strip, title, (MARGIN, 23), _LARGE)
    return strip


def _wrap(text: str, width: int) -> list[str]:
    advance = cv2.getTextSize('abcdefghij', _FONT, _SMALL, 1)[0][0] / 10
    return [
        line
        for paragraph in text.split('\n')
        for line in textwrap.wrap(paragraph, max(8, int(width / advance))) or ['']
    ]


def _write(canvas: Picture, text: str, at: tuple[int, int], scale: float) -> None:
    plain = text.encode('ascii', 'replace').decode()  # OpenCV's font has no other letters
    cv2.putText(canvas, plain, at, _FONT, scale, _INK, 1, cv2.LINE_AA)
