"""Checks of arguments that several adapters share."""

from math import isfinite


def check_deform_ratio(ratio: float) -> None:
    """Raise `ValueError` if `ratio` is not a positive number."""
    is_number = isinstance(ratio, int | float) and not isinstance(ratio, bool)
    if not (is_number and isfinite(ratio) and ratio > 0):
        raise ValueError(
            f'deform_ratio={ratio!r}: give a positive number, the width of the values of the '
            'deformable attention over the width of the ViT, such as 0.5 or 1.0'
        )
