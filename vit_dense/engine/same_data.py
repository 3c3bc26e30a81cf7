"""Check that all processes have the same data sets, which the samplers divide among them."""

import zlib
from typing import Any

from mmengine.dist import all_gather_object, get_world_size

from .wrappers import iter_datasets


def check_same_data(dataset: Any, split: str) -> None:
    """Compare length and classes of a data set over the processes; one collective operation.

    Raises:
        ValueError: They differ, on every process with the same message.
    """
    if get_world_size() == 1:
        return
    classes = [
        (getattr(one, 'metainfo', None) or {}).get('classes') for one in iter_datasets(dataset)
    ]
    found = all_gather_object((len(dataset), zlib.crc32(repr(classes).encode())))
    if len(set(found)) == 1:
        return
    sizes = ', '.join(f'{size} in process {rank}' for rank, (size, _) in enumerate(found))
    what = f'length ({sizes})' if len({size for size, _ in found}) > 1 else 'names of the classes'
    raise ValueError(
        f'The processes have different {split} data sets: they differ in the {what}. Give every '
        'machine the same config and the same files.'
    )
