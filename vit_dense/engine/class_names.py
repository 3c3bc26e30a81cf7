"""Compare names and order of classes between a checkpoint and data, and between data sets.

A model predicts numbers. With the same number of classes in another order, everything runs, and
each class is scored as another one.
"""

import logging
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from mmengine.logging import print_log

from .wrappers import iter_datasets


def check_names(classes: Any) -> None:
    """Raise `ValueError` if classes are one string, whose letters would be the names."""
    if isinstance(classes, str):
        raise ValueError(
            f'metainfo.classes={classes!r} is neither a file of names nor a tuple: for one class '
            f'write classes=({classes!r},), with the comma.'
        )


def check_class_names(
    checkpoint: Mapping[str, Any],
    expected: Sequence[str] | None,
    *,
    starts_training: bool = False,
) -> None:
    """Compare the class names in a checkpoint with those of the data, where both are known.

    Args:
        checkpoint: What was read from the file.
        expected: The names that the data have.
        starts_training: Whether a new training loads the file, which may be for other classes.

    Raises:
        ValueError: The names or their order differ: predictions would be counted as other classes.
    """
    meta = checkpoint.get('meta', {})
    # mmdet 2 and mmseg 0 wrote CLASSES.
    given = list((meta.get('dataset_meta') or {}).get('classes') or meta.get('CLASSES') or ())
    if not given or expected is None:
        return
    _check_order('checkpoint', given, 'config', list(expected))
    if given == list(expected) or (starts_training and len(given) != len(expected)):
        return
    message = (
        'The checkpoint was trained with other classes than those of the config.\n'
        f'checkpoint: {", ".join(given)}\nconfig: {", ".join(expected)}'
    )
    if not starts_training:
        advice = "Set metainfo.classes of the config's data sets as in the checkpoint."
        raise ValueError(f'{message}\n{advice}')
    print_log(f'{message}\nHeads start from it.', logger='current', level=logging.WARNING)


def check_class_order(training: Any, validation: Any) -> None:
    """Raise `ValueError` if two data sets have the same classes in another order."""
    for first, second in product(iter_datasets(training), iter_datasets(validation)):
        _check_order('training', _classes_of(first), 'validation', _classes_of(second))


def _check_order(name: str, classes: list[str], other: str, others: list[str]) -> None:
    if classes != others and sorted(classes) == sorted(others):
        raise ValueError(
            f'The classes of {name} and {other} are the same in another order: each would be taken '
            f'for another one.\n{name}: {", ".join(classes)}\n{other}: {", ".join(others)}\n'
            'Give both one order: by metainfo.classes; with annotation files in COCO format, by '
            'the order of their categories.'
        )


def _classes_of(dataset: Any) -> list[str]:
    return list((getattr(dataset, 'metainfo', None) or {}).get('classes') or ())
