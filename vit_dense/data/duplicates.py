"""Find copies and near copies of images by the hashes of a scan."""

from collections.abc import Sequence

import numpy as np

from .scan import Scan

_DISTANCE = 3  # bits of 64 that may differ
_COLOUR = 6.0  # grey levels by which the means may differ
_FLAT = 6  # bits set, or not set, below which an image has too little structure
_ROWS = 256  # images that are compared with all others at a time


def find_copies(images: Sequence[Scan]) -> dict[int, int]:
    """Return, for each image with the same bytes as an earlier one, the first of these."""
    first: dict[bytes, int] = {}
    earlier = [first.setdefault(one.digest, index) for index, one in enumerate(images)]
    return {index: other for index, other in enumerate(earlier) if other < index}


def find_similar(images: Sequence[Scan]) -> dict[int, int]:
    """Return, for each image that looks like an earlier one, the first of these.

    Their hashes differ in at most 3 of 64 bits, and the means of their channels by at most 6 grey
    levels. Images with little structure, such as a clear sky, are left out.
    """
    usable = [i for i, one in enumerate(images) if _FLAT <= one.look.sum() <= 64 - _FLAT]
    signs = np.array([2.0 * images[i].look - 1 for i in usable], np.float32).reshape(-1, 64)
    similar = {}
    for start in range(0, len(usable), _ROWS):
        # Of 64 signs, those that agree less those that differ; each image agrees with itself.
        alike = signs[start : start + _ROWS] @ signs.T >= 64 - 2 * _DISTANCE
        for row, column in enumerate(alike.argmax(axis=1).tolist()):
            index, other = usable[start + row], usable[column]
            one, two = images[index].mean, images[other].mean
            if other < index and one.shape == two.shape and abs(one - two).max() <= _COLOUR:
                similar[index] = other
    return similar
