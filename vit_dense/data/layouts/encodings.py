"""Find what the values of masks mean: classes, their colours, and what is ignored."""

import contextlib
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..files import spread_evenly
from ..masks import colour_of, read_mask, value_codes

_VOID = 255  # in 8-bit masks, and the value that ignored pixels get
_WHITE = 0xFFFFFF
_VOID_NAMES = {'void', 'ignore', 'ignored', 'unlabeled', 'unlabelled'}
_CLASS_FILE = re.compile(r'(class|label|meta|color|colour|names).*\.(txt|csv)$')
_MASKS_READ, _MAX_CLASSES = 1000, 255
_GAPS = 8  # more unused values than this beyond the used ones: the values are no indices


class Named(NamedTuple):
    """A line of a file of classes."""

    name: str
    value: int | None = None  # in masks
    rgb: tuple[int, ...] | None = None


@dataclass
class Encoding:
    """What masks hold: `label_map` and `colours` are arguments of `CheckedSegDataset`."""

    kind: str = ''
    classes: list[str] = field(default_factory=list)
    palette: list[list[int]] = field(default_factory=list)
    label_map: dict[int, int] | None = None
    colours: list[list[int]] | None = None
    undecided: list[tuple[str, str]] = field(default_factory=list)


def read_classes(text: str) -> list[Named]:
    """Read `--classes`: names with commas between them, or a file of names, values and colours.

    Raises:
        ValueError: There are no names in it.
    """
    if not os.path.isfile(text):
        found = [Named(one.strip()) for one in text.split(',') if one.strip()]
    else:
        lines = Path(text).read_text(encoding='utf-8-sig').splitlines()
        found = [_named(line) for line in lines if line.strip()]
        if any(one.rgb or one.value is not None for one in found):  # without the header
            found = [one for one in found if one.rgb or one.value is not None]
    names = [one.name for one in found]
    if not all(names) or len(set(names)) < max(len(names), 1):
        raise ValueError(
            f'--classes {text}: give names with commas between them, or a text file that has a '
            'class a line: NAME, VALUE NAME, or NAME R G B; each name once.'
        )
    return found


def _named(line: str) -> Named:
    """Read a line: numbers before the name are its value or colour, three behind it its colour."""
    columns = ' '.join(re.split(r'[\s,;:]+', line.strip(' ,;:\t')))
    match = re.fullmatch(r'((?:\d+ )*)(.*?)((?: \d+){3})?', columns)
    assert match is not None, 'each part may be empty'
    before, name, after = match.groups(default='')
    numbers = [int(one) for one in f'{before}{after}'.split()]
    rgb = tuple(numbers[-3:]) if len(numbers) >= 3 else None
    return Named(name, numbers[0] if len(numbers) in (1, 4) else None, rgb)


def find_classes(root: str, files: Sequence[str]) -> tuple[list[Named], str]:
    """Return the classes of the nearest file of classes, and its path."""
    for path in sorted(files, key=lambda one: one.count('/')):
        if _CLASS_FILE.search(os.path.basename(path).lower()):
            with contextlib.suppress(ValueError):
                return read_classes(os.path.join(root, path)), path
    return [], ''


def find_encoding(masks: Sequence[str], named: list[Named], source: str = '') -> Encoding:
    """Read masks, up to 1,000, and find out what they mean.

    Args:
        masks: The files.
        named: What is known of the classes.
        source: The file that says so, if it was found and not given.

    Raises:
        ValueError: A mask cannot be read, or has more colours than classes may have.
    """
    is_rgb = any(read_mask(masks[n]).ndim == 3 for n in spread_evenly(len(masks), 3))
    is_sure = any(one.rgb if is_rgb else one.value is not None for one in named)
    chosen = [masks[index] for index in spread_evenly(len(masks), _MASKS_READ)]
    with ThreadPoolExecutor() as pool:
        read = pool.map(partial(read_mask, as_colours=is_rgb), chosen)
        values = sorted({code for one in read for code in np.unique(value_codes(one)).tolist()})
    is_jpeg = chosen[0].lower().endswith(('.jpg', '.jpeg'))
    if is_jpeg and len(values) <= _MAX_CLASSES and not {*values} <= {0, _VOID, _WHITE}:
        raise ValueError(
            f'{chosen[0]} is a JPEG file: it blurs classes at their borders, and the masks hold '
            f'{len(values)} values or colours. Save masks as PNG, from the source. Black and white '
            'ones can be used as they are: label_map = {n: n // 128 for n in range(256)} in a '
            'config that inherits vit_dense::vit_upernet_small.py.'
        )
    if is_rgb and source and not is_sure:  # the order of the colours is unknown
        named = []
    result = _colours(values, named) if is_rgb else _indices(values, named, chosen[0])
    if len(result.classes) > _MAX_CLASSES:
        raise ValueError(
            f'The masks hold {len(values)} {"colours" if is_rgb else "values"}, such as '
            f'{chosen[0]}: too many for classes. Blurred edges or JPEG do that, or masks of '
            'single objects. Name other masks with --masks FOLDER.'
        )
    result.kind += f'; {len(chosen)} of {len(masks)} read' if len(chosen) < len(masks) else ''
    result.kind += f'; classes of {source}' if source and named else ''
    return result


def _colours(values: list[int], named: list[Named]) -> Encoding:
    found = [colour_of(one) for one in values]
    names = {one.rgb: one.name for one in named if one.rgb}
    undecided: list[tuple[str, str]] = []
    void = [rgb for rgb, name in names.items() if name.lower() in _VOID_NAMES]
    for one in named:
        if one.rgb and (taken := names[one.rgb]) != one.name:
            what = f'whether the colour {one.rgb} is {one.name} or {taken} (taken)'
            undecided.append((what, '--classes FILE'))
    if names and (others := [rgb for rgb in found if rgb not in names]):
        undecided.append((f'the classes of the colours {others[:6]}: ignored', '--classes FILE'))
        void += others
    elif not names and len(named) == len(found):
        names = {rgb: one.name for rgb, one in zip(found, named, strict=True)}
    elif not names:
        names = dict(zip(found, _placeholders(len(found)), strict=True))
        undecided.append(('the names of the colours', '--classes FILE (lines of NAME R G B)'))
    chosen = [rgb for rgb in names if rgb not in void]
    every = [list(map(int, rgb or ())) for rgb in (*chosen, *void)]
    classes = [names[rgb] for rgb in chosen]
    return Encoding('RGB colours', classes, every[: len(chosen)], None, every, undecided)


def _indices(values: list[int], named: list[Named], mask: str) -> Encoding:
    """Understand masks of one number per pixel; `mask` is one of them."""
    top = 2**16 - 1 if values[-1] > _VOID else _VOID
    given = {one.value: one.name for one in named if one.value is not None}
    void = [value for value, name in given.items() if name.lower() in _VOID_NAMES]
    void += [one for one in values if one == top and set(values) - {0, one} and one not in given]
    levels = [one for one in values if one not in void] or [0]
    names, undecided = [one.name for one in named if one.value not in void or not given], []
    count, kind = len(names), f'{top.bit_length()}-bit indices'
    if given and set(levels) <= given.keys():
        ordered = sorted(given.keys() - set(void))
        names = [given[one] for one in ordered]
    elif set(levels) <= {0, top}:
        kind, ordered = f'black and white: 0 and {top}', [0, top]
    elif levels[-1] < count:
        ordered = list(range(count))
        if levels[-1] < count - 1:
            undecided.append((f'whether 0 is {names[0]} (taken) or no class', '--classes FILE'))
    elif levels[-1] == count > 1:  # 0 is no class
        ordered, void = list(range(1, count + 1)), [*void, *(one for one in levels if not one)]
    elif len(levels) == count or levels[-1] >= 2 * len(levels) + _GAPS:
        kind, ordered = f'{kind} with gaps', levels
        if top in void and top not in given:
            undecided.append((f'whether {top} is a class (taken for none)', '--classes FILE'))
    else:
        ordered = list(range(min(levels[0], 1), levels[-1] + 1))
    is_binary = len(ordered) == 2 and ordered[0] == 0
    if is_binary and count < 2:
        names = ['background', *(names or ['foreground'])]
    elif len(names) != len(ordered):
        names = _placeholders(len(ordered))
        undecided.append((f'the names of the {len(names)} classes', '--classes NAME,NAME,...'))
    kind += ' from 1' if ordered[0] == 1 else ''
    label_map = {value: index for index, value in enumerate(ordered)}
    label_map.update(dict.fromkeys(void, _VOID))
    is_plain = all(value == index for value, index in label_map.items())
    colours = [one.rgb for one in named if one.rgb] or _palette(mask, ordered)
    palette = [list(one) for one in colours] if len(colours) == len(names) else []
    return Encoding(kind, names, palette, None if is_plain else label_map, None, undecided)


def _palette(mask: str, values: Sequence[int]) -> list[list[int]]:
    """Return the colours that a palette image gives to `values`; [] without a palette."""
    with Image.open(mask) as picture:
        levels = picture.getpalette('RGB')
    rows = [list(levels[3 * one : 3 * one + 3]) for one in values] if levels else []
    return rows if all(map(len, rows)) else []


def _placeholders(count: int) -> list[str]:
    return [f'class_{index}' for index in range(count)]
