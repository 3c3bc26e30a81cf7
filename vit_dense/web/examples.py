"""Images that the page offers: those of a folder, or the first ones of a config's test data."""

import os
from collections.abc import Iterator
from itertools import islice
from typing import Any

from ..runtime.images import read_image
from ..runtime.inputs import expand

_COUNT = 8


def example_images(folder: str | None, config: Any) -> list[str]:
    """Return the paths of up to eight images.

    Args:
        folder: Where to look, with sub-folders; None for the test data of `config`.
        config: The config of the model, or None if there is none.

    Raises:
        ValueError: `folder` has no image.
    """
    if folder is not None:
        if not os.path.isdir(folder):
            raise ValueError(f'--examples {folder}: there is no such folder.')
        return list(islice(_readable(folder), _COUNT))
    place = None if config is None else _test_folder(config)
    if place is None or not os.path.isdir(place):
        return []
    try:
        return list(islice(_readable(place), _COUNT))
    except ValueError:
        return []  # test data without images here


def _readable(folder: str) -> Iterator[str]:
    for item in expand(folder):
        path = str(item.path)
        try:
            read_image(path)
        except ValueError:
            continue
        yield path


def _test_folder(config: Any) -> str | None:
    from ..apis.config import innermost_datasets

    loader = config.get('test_dataloader')
    if loader is None:
        return None
    dataset = next(innermost_datasets(loader.dataset))
    prefix = dataset.get('data_prefix') or {}
    name = prefix.get('img_path', prefix.get('img'))
    root = dataset.get('data_root') or ''
    return None if not name else os.path.join(root, name)
