"""Checks of arguments that several adapters share."""


def check_deform_ratio(ratio: float) -> None:
    """Raise `ValueError` if `ratio` is not a positive number."""
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not ratio > 0:
        raise ValueError(
            f'deform_ratio={ratio!r}: give a positive number, the width of the values of the '
            'deformable attention over the width of the ViT, such as 0.5 or 1.0'
        )
