"""Size, bands and range of values of the images of a data set."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..files import spread_evenly
from ..findings import mean_and_std
from ..scan import scan_image

_READ = 32
_LEVELS = 255
_GREATEST = (1, _LEVELS, 1023, 4095, 16383, 65535)  # of shares, and of 8 to 16 bits


class Images(NamedTuple):
    """What images have in common."""

    size: tuple[int, int]  # median width and height in pixels
    bands: int
    max_value: int | None  # the value that becomes 255 while loading; None: values stay as they are
    mean: list[float]  # of each channel as the model gets it, RGB or in the order of the file
    std: list[float]


def inspect_images(paths: Sequence[str], load: Callable[[str], NDArray[Any]]) -> Images:
    """Read some images, spread evenly.

    Args:
        paths: The files.
        load: Returns `(H, W)` or `(H, W, C)`; three channels are B, G, R.

    Raises:
        ValueError: One cannot be read, or they differ in the number of bands.
    """
    scans = [scan_image(paths[index], load) for index in spread_evenly(len(paths), _READ)]
    if bad := next((one for one in scans if one.error), None):
        raise ValueError(f'{bad.path}: {bad.error}')
    statistics = mean_and_std(scans)
    if statistics is None:
        raise ValueError(f'Images like {paths[0]} differ in their number of bands: make it equal.')
    width, height = np.median([one.size for one in scans], axis=0).astype(int).tolist()
    highest = max(one.maximum for one in scans)
    top = next((one for one in _GREATEST if highest <= one), _LEVELS)
    mean, std = (np.round(one * _LEVELS / top, 2).tolist() for one in statistics)
    if len(mean) == 3:
        mean, std = mean[::-1], std[::-1]
    return Images((width, height), len(mean), None if top == _LEVELS else top, mean, std)
