"""Check a data folder against the config; each mistake raises one message that says what to do.

Independent of any framework: takes paths and numbers, raises `ValueError`.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .files import data_not_found, missing_files, picture_size, spread_evenly
from .image_files import BadFileError
from .masks import Mask, decode_mask, describe_colours, read_mask, value_codes
from .pairs import Endings, Pairing

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
    """Which values a mask file may hold, and which class each of them is."""

    num_labels: int  # classes in the files, without label 0 if that is "other"
    ignore_index: int  # of pixels that belong to no class, after loading
    reduce_zero_label: bool  # whether loading turns 0 into "ignore" and k into k - 1
    label_map: Mapping[int, int] | None = None  # class or `ignore_index` of each value in the file
    # RGB of each class, for masks with colours; `label_map` is of positions then.
    colours: Sequence[Sequence[int]] | None = None

    @property
    def mapping(self) -> Mapping[int, int] | None:
        """`label_map`; without it, colours after those of the classes are void."""
        if self.label_map is not None or self.colours is None:
            return self.label_map
        positions, count = range(len(self.colours)), self.num_labels
        return {one: one if one < count else self.ignore_index for one in positions}

    def decode(self, values: Mask, name: str) -> Mask:
        """Return `(H, W)` labels of the values of the mask `name`, as `decode_mask` does."""
        return decode_mask(
            values,
            label_map=self.mapping,
            colours=self.colours,
            ignore_index=self.ignore_index,
            name=name,
        )

    def forbidden(self, mask: NDArray[np.generic]) -> list[int]:
        """Return the sorted labels in `mask` that are neither a class nor void."""
        allowed = set(range(self.num_labels + int(self.reduce_zero_label)))
        allowed |= {_VOID} if self.reduce_zero_label else {self.ignore_index}
        return sorted({int(value) for value in np.unique(mask)} - allowed)

    def check(self) -> None:
        """Raise `ValueError` if these settings contradict each other."""
        count, void = self.num_labels, self.ignore_index
        if self.reduce_zero_label and (self.label_map or self.colours):
            raise ValueError(
                'reduce_zero_label=True together with label_map or colours: the latter alone say '
                'which class a value is. Remove reduce_zero_label, and map 0 to ignore_index.'
            )
        if count > _VOID and void == _VOID:
            raise ValueError(
                f'With {count} classes, ignore_index={_VOID} is one of them, which would not be '
                'learnt. Set ignore_index=65535 in the data sets, in decode_head, auxiliary_head '
                'and evaluators, as seg_pad_val in data_preprocessor, and in RandomCrop.'
            )
        classes = {*range(count), void}
        if wrong := sorted({*(self.label_map or {}).values()} - classes):
            raise ValueError(
                f'label_map leads to {wrong}; with {count} classes only 0..{count - 1} and '
                f'ignore_index={void} are allowed: {{value in the file: class}}.'
            )
        colours = [tuple(one) for one in self.colours or ()]
        if twice := [one for one in colours if colours.count(one) > 1]:
            raise ValueError(
                f'colours has {twice[0]} more than once: the pixels of one class would count for '
                'another. Give each class its own colour.'
            )
        if self.colours is not None and self.label_map is None and len(self.colours) < count:
            raise ValueError(
                f'colours has {len(self.colours)} entries for {count} classes: give one RGB colour '
                'for each class, in the order of metainfo.classes.'
            )


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
    hints = [_DEMO_HINT]
    if boxes := sorted(Path(data_root, 'annotations').glob('*.json')) if data_root else []:
        hints.insert(
            0,
            f'There are annotation files for detection there ({boxes[0]}): to train a detector on '
            'them, start from configs/vit_maskrcnn_custom.py.',
        )
    raise ValueError(
        data_not_found(
            f'the folder {missing} does not exist',
            f'data_root={data_root!r}' if data_root else 'data_prefix',
            [f'{os.path.join(one, "*")}{end}' for one, end in zip(folders, suffixes, strict=True)],
            link=data_root or missing,
            source=source,
            hints=hints,
        )
    )


def check_found(image_folder: str, suffix: Endings, count: int) -> None:
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
    ends = '' if suffix is None else f' ends in {suffix!r}'
    raise ValueError(
        f'No image{ends} in {image_folder}; found there: {found or "nothing"}. Set img_suffix or '
        "the folder (data_root, data_prefix) in the config's datasets, or put the images there."
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
            'A mask has the name of its image, with seg_map_suffix in the place of img_suffix. '
            'Add the masks, remove the images, or set data_prefix, img_suffix and seg_map_suffix.'
        )


def check_pairing(
    found: Pairing, folders: Pair, img_suffix: Endings, seg_map_suffix: str, source: str
) -> str | None:
    """Check that no image is left out, and that every image has a mask.

    Args:
        found: What `list_pairs` returned for the other arguments.
        folders: Of images and masks.
        img_suffix: How images end.
        seg_map_suffix: How masks end.
        source: The file of the given names, for messages.

    Returns:
        A warning about masks that have no image.

    Raises:
        ValueError: Names have no image, images would be passed over, or have no mask.
    """
    image_folder, mask_folder = folders
    if absent := found.names_without_image:
        raise ValueError(
            f'{len(absent)} names in {source} have no image in {image_folder} with img_suffix='
            f'{img_suffix!r}, among them {", ".join(map(repr, absent[:_NAMES_SHOWN]))}. Correct '
            'the list, data_prefix.img_path or img_suffix.'
        )
    spare = set(found.masks_without_image)
    for image in found.other_images:
        stem = os.path.splitext(os.path.relpath(image, image_folder))[0]
        if os.path.join(mask_folder, stem + seg_map_suffix) in spare:
            raise ValueError(
                f'img_suffix={img_suffix!r} passes over images that have a mask, such as {image}. '
                'Set img_suffix=None for all endings of images, or list several.'
            )
    if found.missing_masks:
        bare = zip(found.images_without_mask, found.missing_masks, strict=True)
        check_pairs([*found.pairs, *bare])
    if not spare:
        return None
    return (
        f'{len(spare)} masks in {mask_folder} have no image in {image_folder}, such as '
        f'{min(spare)}: they are not used.'
    )


def check_masks(
    pairs: Sequence[Pair],
    rule: LabelRule,
    limit: int | None = None,
    *,
    color_type: str = 'color',
    skip_bad: bool = False,
) -> set[int]:
    """Open masks and check that they fit their image and the classes.

    Args:
        pairs: Paths of image and mask.
        rule: Which values are allowed.
        limit: Maximum number of masks to check, spread evenly; None checks all.
        color_type: With which images are loaded; see `picture_size`.
        skip_bad: Whether to leave out files that are missing or damaged.

    Returns:
        The labels that occur in them, before `reduce_zero_label`.

    Raises:
        ValueError: A mask does not fit; the message says why and what to do.
    """
    labels: set[int] = set()
    colours: set[int] = set()
    coloured = ''
    for index in spread_evenly(len(pairs), limit):
        image, mask = pairs[index]
        try:
            values = read_mask(mask, as_colours=rule.colours is not None)
        except BadFileError:
            if skip_bad:
                continue
            raise
        size = picture_size(image, color_type)
        if size is not None:
            check_size(mask, values.shape[:2], image, (size[1], size[0]))
        if values.ndim == 3 and rule.colours is None:
            coloured = coloured or mask
            colours |= set(np.unique(value_codes(values)).tolist())
            continue
        decoded = rule.decode(values, f'The mask {mask}')
        labels |= set(np.unique(decoded).tolist())
        if wrong := rule.forbidden(decoded):
            raise ValueError(describe_wrong_values(mask, wrong, rule))
    if coloured:
        raise ValueError(describe_colours(colours, f'The mask {coloured}'))
    plain = not rule.reduce_zero_label and rule.label_map is None
    if plain and labels == {0, _VOID} and rule.num_labels == 2 and rule.ignore_index == _VOID:
        raise ValueError(
            f'The masks, such as {pairs[0][1]}, hold 0 and 255 alone, and ignore_index=255: '
            'nothing of the second class would be learnt or measured. Set label_map={0: 0, 255: 1} '
            'in the data sets; or {0: 0, 1: 1, 255: 255} if 255 does mean "no class".'
        )
    return labels


def check_size(mask: str, size: Sequence[int], image: str, image_size: Sequence[int]) -> None:
    """Raise `ValueError` if height and width of a mask are not those of its image."""
    if tuple(size) != tuple(image_size):
        turned = ' The mask is turned by 90 degrees.' if size[::-1] == tuple(image_size) else ''
        raise ValueError(
            f'The mask {mask} has {size[1]}x{size[0]} pixels, its image {image} has '
            f'{image_size[1]}x{image_size[0]}.{turned} They must agree: replace the mask.'
        )


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
                'datasets, or label_map={value: class, ...}; if 0 is a class of its own, add it '
                'to metainfo.classes and num_classes.'
            )
        elif list(wrong) == [_VOID]:
            reason = (
                '255 is either "no class" (set ignore_index=255) or a foreground saved as white '
                '(set label_map={0: 0, 255: 1}).'
            )
    return (
        f'The mask {source} holds the value{"s" if len(wrong) > 1 else ""} {shown}; with {count} '
        f'classes and reduce_zero_label={rule.reduce_zero_label} only {allowed} are allowed. '
        f'{reason}'
    )
