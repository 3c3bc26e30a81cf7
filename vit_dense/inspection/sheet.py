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
_SMALL, _LARGE = 0.42, 0.62


def heat(values: NDArray[np.floating], *, top: float | None = None) -> Picture:
    """Return colours, dark at 0 and bright at `top` (default: the largest value), as uint8 RGB."""
    top = float(values.max()) if top is None else top
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
    marked = np.ascontiguousarray(picture)
    marked = marked.copy()
    radius = max(4, round(min(marked.shape[:2]) / 28))
    cv2.circle(marked, point, radius, (0, 0, 0), max(3, radius // 2), cv2.LINE_AA)
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


def section(title: str, cells: Sequence[tuple[Picture, str]], columns: int) -> Picture:
    """Return a page-wide section of pictures with captions, in rows of `columns`."""
    width = (PAGE_WIDTH - 2 * MARGIN) // columns - 6
    parts = [_banner(title)]
    for start in range(0, len(cells), columns):
        row = [caption(picture, text, width) for picture, text in cells[start : start + columns]]
        parts.append(_page_wide(sheet(row, columns)))
    return np.vstack(parts)


def text_section(title: str, text: str) -> Picture:
    """Return a page-wide section of text."""
    lines = _wrap(text, PAGE_WIDTH - 2 * MARGIN)
    strip = np.full((len(lines) * _LINE + 12, PAGE_WIDTH, 3), _WHITE, np.uint8)
    for index, line in enumerate(lines):
        _write(strip, line, (MARGIN, 18 + index * _LINE), _SMALL)
    return np.vstack([_banner(title), strip])


def head_grid(rows: Sequence[Sequence[Picture]]) -> Picture:
    """Return one row of pictures per block and one column per head, with their numbers."""
    left, top = 62, 20
    columns = max(len(row) for row in rows)
    width = max(40, min(210, (PAGE_WIDTH - 2 * MARGIN - left) // columns - 4))
    height = fit(rows[0][0], width).shape[0]
    size = (top + len(rows) * (height + 4), left + columns * (width + 4), 3)
    page = np.full(size, _WHITE, np.uint8)
    for column in range(columns):
        _write(page, f'head {column}', (left + column * (width + 4), 14), 0.38)
    for index, row in enumerate(rows):
        y = top + index * (height + 4)
        _write(page, f'block {index}', (0, y + height // 2 + 4), 0.38)
        for column, picture in enumerate(row):
            x = left + column * (width + 4)
            page[y : y + height, x : x + width] = fit(picture, width)
    return page


def titled(title: str, picture: Picture) -> Picture:
    """Return a page-wide section of one picture at its own size."""
    return np.vstack([_banner(title), _page_wide(picture)])


def _banner(title: str) -> Picture:
    strip = np.full((34, PAGE_WIDTH, 3), _PALE, np.uint8)
    _write(strip, title, (MARGIN, 23), _LARGE)
    return strip


def _page_wide(picture: Picture) -> Picture:
    room = PAGE_WIDTH - MARGIN - picture.shape[1]
    padding = ((8, 6), (MARGIN, max(0, room)), (0, 0))
    return np.pad(picture, padding, constant_values=_WHITE)[:, :PAGE_WIDTH]


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
