"""Check a data folder against the config; each mistake raises one message that says what to do.

Independent of any framework: takes paths and numbers, raises `ValueError`.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from .files import data_not_found, missing_files, picture_size, spread_evenly

Pair = tuple[str, str]

_DEMO_HINT = (
    'The demo needs no download: in a checkout of vit_dense, `make demo` writes data/demo '
    '(`python -m examples.streets --out data/demo` writes it alone) and trains on it.'
)
# The maximum of 8-bit masks, and the value that reduce_zero_label writes for label 0.
_VOID = 255
_NAMES_SHOWN = 3


@dataclass(frozen=True)
class LabelRule:
    """Which values a mask file may hold.

    Attributes:
        num_labels: Number of classes in the files, without label 0 if that is "other".
        ignore_index: Value of pixels that belong to no class, after loading.
        reduce_zero_label: Whether loading turns 0 into "ignore" and k into k - 1.
    """

    num_labels: int
    ignore_index: int
    reduce_zero_label: bool

    def forbidden(self, mask: NDArray[np.generic]) -> list[int]:
        """Return the sorted values in `mask` that are neither a class nor void."""
        allowed = set(range(self.num_labels + int(self.reduce_zero_label)))
        allowed |= {_VOID} if self.reduce_zero_label else {self.ignore_index}
        return sorted({int(value) for value in np.unique(mask)} - allowed)


def check_folders(
    data_root: str | None, folders: Sequence[str], suffixes: Sequence[str], source: str
) -> None:
    """Check that the folders of a data set exist.

    Args:
        data_root: The folder that the config names, if it names one.
        folders: The folders that must exist.
        suffixes: File ending of each of `folders`.
        source: Where the data set comes from, a sentence; may be empty.

    Raises:
        ValueError: A folder is missing; the message has the expected layout, the source, and the
            command of the demo.
    """
    missing = next((folder for folder in folders if not os.path.isdir(folder)), None)
    if missing is None:
        return
    message = data_not_found(
        f'the folder {missing} does not exist',
        f'data_root={data_root!r}' if data_root else 'data_prefix',
        [f'{os.path.join(one, "*")}{end}' for one, end in zip(folders, suffixes, strict=True)],
        link=data_root or missing,
        source=source,
        hints=[*_other_task(data_root), _DEMO_HINT],
    )
    raise ValueError(message)


def _other_task(data_root: str | None) -> list[str]:
    """Return a hint if the folder holds boxes instead of masks."""
    files = sorted(Path(data_root or '.', 'annotations').glob('*.json')) if data_root else []
    if not files:
        return []
    return [
        f'There are annotation files for detection there ({files[0]}): to train a detector on '
        'them, start from configs/vit_maskrcnn_custom.py.'
    ]


def check_found(image_folder: str, suffix: str, count: int) -> None:
    """Check that a folder of images is not empty.

    Raises:
        ValueError: `count` is 0; the message lists the file endings that were found.
    """
    if count:
        return
    endings = Counter(path.suffix for path in Path(image_folder).rglob('*') if path.is_file())
    found = ', '.join(
        f'{number} {ending or "without ending"}' for ending, number in endings.items()
    )
    raise ValueError(
        f'No image ends in {suffix!r} in {image_folder}; found there: {found or "nothing"}. '
        "Set img_suffix in the config's datasets, or put the images there."
    )


def check_pairs(pairs: Sequence[Pair]) -> None:
    """Check that every image has a mask.

    Args:
        pairs: Paths of image and mask.

    Raises:
        ValueError: Masks are missing; the message has their number and the first of them.
    """
    missing = [pairs[index] for index in missing_files([mask for _, mask in pairs])]
    if missing:
        shown = '\n'.join(f'  {image} needs {mask}' for image, mask in missing[:_NAMES_SHOWN])
        raise ValueError(
            f'{len(missing)} of {len(pairs)} images have no mask, among them:\n{shown}\n'
            'A mask has the name of its image, and the ending seg_map_suffix. Add the masks, '
            'remove the images, or set img_suffix and seg_map_suffix in the config.'
        )


def check_masks(pairs: Sequence[Pair], rule: LabelRule, limit: int | None = None) -> None:
    """Open masks and check that they fit their image and the classes.

    Args:
        pairs: Paths of image and mask.
        rule: Which values are allowed.
        limit: Maximum number of masks to check, spread evenly; None checks all.

    Raises:
        ValueError: A mask does not fit; the message says why and what to do.
    """
    for index in spread_evenly(len(pairs), limit):
        image, mask = pairs[index]
        values = read_mask(mask)
        size = picture_size(image)
        if size is not None and size != (values.shape[1], values.shape[0]):
            raise ValueError(
                f'The mask {mask} has {values.shape[1]}x{values.shape[0]} pixels, its image '
                f'{image} has {size[0]}x{size[1]}. They must agree: replace the mask.'
            )
        if wrong := rule.forbidden(values):
            raise ValueError(describe_wrong_values(mask, wrong, rule))


def read_mask(path: str) -> NDArray[np.generic]:
    """Read `(H, W)` class indices.

    Raises:
        ValueError: The file is not a picture, or has colours instead of one number per pixel.
    """
    try:
        with Image.open(path) as picture:
            values = np.asarray(picture)
    except (OSError, UnidentifiedImageError) as error:
        raise ValueError(f'The mask {path} cannot be read as a picture: {error}.') from error
    if values.ndim != 2:
        raise ValueError(
            f'The mask {path} has {values.shape[2]} channels. A mask holds one class index per '
            'pixel (8-bit grayscale or palette PNG): convert colours to indices first.'
        )
    # A picture of mode "1" is read as booleans.
    return values.astype(np.uint8) if values.dtype == np.bool_ else values


def describe_wrong_values(source: str, wrong: Sequence[int], rule: LabelRule) -> str:
    """Return a message with the wrong values of a mask and the usual reason.

    Args:
        source: The mask's path.
        wrong: The values in the file that fit no class, sorted.
        rule: Which values are allowed.
    """
    shown = ', '.join(str(value) for value in wrong[:8]) + (', ...' if len(wrong) > 8 else '')
    count = rule.num_labels
    if rule.reduce_zero_label:
        allowed = f'0 (ignored), 1..{count} and 255'
        reason = f'The file has more than {count} classes: complete metainfo.classes.'
    else:
        allowed = f'0..{count - 1} and ignore_index={rule.ignore_index}'
        reason = (
            'Complete metainfo.classes, or set ignore_index to the value that means "no class".'
        )
        if list(wrong) == [count]:
            reason = (
                'If 0 means "other" and the classes begin at 1, set reduce_zero_label=True in the '
                'datasets; if 0 is a class of its own, add it to metainfo.classes and num_classes.'
            )
        elif list(wrong) == [_VOID]:
            reason = (
                '255 is either "no class" (set ignore_index=255) or a foreground saved as white '
                '(write 1 instead of 255).'
            )
    return (
        f'The mask {source} holds the value{"s" if len(wrong) > 1 else ""} {shown}; with {count} '
        f'classes and reduce_zero_label={rule.reduce_zero_label} only {allowed} are allowed. '
        f'{reason}'
    )
