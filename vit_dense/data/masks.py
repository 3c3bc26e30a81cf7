"""Read masks of any encoding: indices of any depth, palettes, colours, black and white."""

from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .image_files import BadFileError, read_checked

Mask = NDArray[np.integer[Any]]

# Pillow spreads grey levels of 2 and 4 bits over 0..255.
_SPREAD: dict[Any, int] = {'L;2': 85, 'L;4': 17}
_COLOUR_MODES = ('RGB', 'RGBA', 'LA')
_INDEX_MODES = ('1', 'L', 'P', 'I', 'I;16', 'I;16B')
# In the order of preference; OpenCV resizes and rotates the first three.
_LABEL_TYPES = (np.uint8, np.uint16, np.int16, np.int32)
_SHOWN = 8
# More colours than this are shades: of JPEG, or of resizing with interpolation.
_MOST_COLOURS = 64


def read_mask(path: str | Path, *, content: bytes | None = None, as_colours: bool = False) -> Mask:
    """Read the values of a mask file.

    Args:
        path: A file that Pillow reads.
        content: The bytes of the file, if they are known.
        as_colours: Return the colours of images with a palette or grey levels, too.

    Returns:
        `(H, W)` indices, of as many bits as the file has; 0 and 1 for images of one bit, the
        index for images with a palette. `(H, W, 3)` uint8 RGB for colours; alpha is dropped.

    Raises:
        BadFileError: The file is missing or damaged.
        ValueError: It is an image of other values, such as fractions.
    """
    if content is None:
        content = read_checked(path)
    try:
        with Image.open(BytesIO(content)) as picture:
            mode = picture.mode
            if mode in _COLOUR_MODES or (as_colours and mode in ('1', 'L', 'P')):
                return np.asarray(picture.convert('RGB'))
            spread = _SPREAD.get(picture.tile[0][3], 1) if picture.tile else 1
            values = np.asarray(picture)
    except (OSError, SyntaxError) as error:
        raise BadFileError(f'The mask {path} cannot be read as a picture: {error}') from error
    if mode not in _INDEX_MODES:
        raise ValueError(
            f'The mask {path} is an image of mode {mode}. A mask has an index per pixel (grey or '
            'palette), or RGB colours: save it as such.'
        )
    if values.dtype == np.bool_:
        return values.astype(np.uint8)
    return values if spread == 1 else values // np.uint8(spread)


def decode_mask(
    values: Mask,
    *,
    label_map: Mapping[int, int] | None = None,
    colours: Sequence[Sequence[int]] | None = None,
    ignore_index: int = 255,
    name: str = 'The mask',
) -> Mask:
    """Turn the values of a mask file into class indices.

    Args:
        values: `(H, W)`, or `(H, W, 3)` RGB, of `read_mask`.
        label_map: Class index, or `ignore_index`, of each value in the file; with `colours`, of
            each position in that list. None: the values are the class indices.
        colours: RGB of each class.
        ignore_index: Value of pixels without a class, which the type of the result must hold.
        name: Names the mask in messages.

    Returns:
        `(H, W)`, uint8 if that suffices, else uint16, int16 or int32.

    Raises:
        ValueError: A value or colour is not listed, or the mask has colours and `colours` is None.
    """
    if colours is not None:
        if values.ndim != 3:
            raise ValueError(f'{name} has one channel, and colours={list(colours)} is set.')
        codes = value_codes(np.array([colours]))[0].tolist()
        positions = {code: position for position, code in enumerate(codes)}
        values = _replace(value_codes(values), positions, f'{name} holds the colour', 'colours')
    elif values.ndim != 2:
        raise ValueError(describe_colours(np.unique(value_codes(values)).tolist(), name))
    if label_map is not None:
        values = _replace(values, label_map, f'{name} holds the value', 'label_map')
    low, high = min(int(values.min()), ignore_index), max(int(values.max()), ignore_index)
    for kind in _LABEL_TYPES:
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return values.astype(kind, copy=False)
    raise ValueError(f'{name} holds the value {high}, more than 32 bits: map it by label_map.')


def value_codes(values: Mask) -> Mask:
    """Return `(H, W)` numbers: the values, or `r << 16 | g << 8 | b` for `(H, W, 3)`."""
    if values.ndim == 2:
        return values
    return values.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)


def colour_of(code: int) -> tuple[int, int, int]:
    """Return red, green and blue of a number of `value_codes`."""
    return code >> 16, code >> 8 & 255, code & 255


def describe_colours(codes: Iterable[int], name: str) -> str:
    """Return the message for a mask with the colours `codes` where none are configured."""
    found = sorted(map(colour_of, codes))
    advice = (
        f'Set colours={found} in the data set, in the order of metainfo.classes; colours after '
        'those of the classes are ignored pixels.'
    )
    if len(found) > _MOST_COLOURS:
        advice = (
            f'There are {len(found)} colours, too many for classes: was the mask saved as JPEG or '
            'resized with interpolation, or does data_prefix.seg_map_path name the images?'
        )
    return f'{name} has 3 channels, colours instead of class indices. {advice}'


def _replace(values: Mask, table: Mapping[int, int], holds: str, option: str) -> Mask:
    """Replace each of `values` by its entry in `table`."""
    keys = np.array(sorted(table), np.int64)
    new = np.array([table[key] for key in keys.tolist()], np.int32)
    levels: NDArray[Any] = values
    if values.dtype in (np.uint8, np.uint16):  # look up 256 or 65,536 levels, not all pixels
        levels = np.arange(np.iinfo(values.dtype).max + 1)
    place = np.searchsorted(keys, levels).clip(max=len(keys) - 1)
    known, result = keys[place] == levels, new[place]
    if levels is not values:
        known, result = known[values], result[values]
    if known.all():
        return result
    show = colour_of if option == 'colours' else int
    wrong, listed = (
        ', '.join(str(show(one)) for one in some[:_SHOWN]) + ', ...' * (len(some) > _SHOWN)
        for some in (np.unique(values[~known]).tolist(), list(table))
    )
    raise ValueError(
        f'{holds} {wrong}, which {option} does not list; it lists {listed}. Add what is missing: '
        'to label_map with the class or ignore_index, to colours at the position of its class, or '
        'at the end to ignore.'
    )
