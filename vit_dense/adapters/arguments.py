"""Checks of arguments that several adapters share."""

from math import isfinite


def check_ratio(name: str, ratio: float, meaning: str, *, may_be_zero: bool = False) -> None:
    """Raise `ValueError` if `ratio` is not a positive number, or 0 where that is allowed."""
    is_number = isinstance(ratio, int | float) and not isinstance(ratio, bool)
    if not (is_number and isfinite(ratio) and (ratio > 0 or (may_be_zero and ratio == 0))):
        raise ValueError(
            f'{name}={ratio!r}: give a positive number, {meaning} over the width of the ViT, such '
            f'as 0.5 or 1.0{"; 0 leaves it out" if may_be_zero else ""}'
        )
