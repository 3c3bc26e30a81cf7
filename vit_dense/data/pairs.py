"""Pair images with their masks by name, and read the lists of names that define splits."""

import os
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

IMAGE_SUFFIXES = frozenset(
    ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.gif', '.jp2', '.ppm', '.pgm')
)
_DATA_SUFFIXES = IMAGE_SUFFIXES | {'.npy'}  # `LoadBands` reads arrays

Name = tuple[str, str | None]
Endings = str | Sequence[str] | None


@dataclass
class Pairing:
    """What `list_pairs` found; paths start with the folders that it was given."""

    pairs: list[tuple[str, str]] = field(default_factory=list)  # by image, or as names are given
    images_without_mask: list[str] = field(default_factory=list)
    masks_without_image: list[str] = field(default_factory=list)  # empty if names were given
    other_images: list[str] = field(default_factory=list)  # passed over by `img_suffix`; likewise
    names_without_image: list[str] = field(default_factory=list)  # of those given
    missing_masks: list[str] = field(default_factory=list)  # of `images_without_mask`


def read_split_list(path: str | Path) -> list[Name]:
    """Read a text file that names an image a line, and perhaps its mask in a second column.

    Columns are separated by a tab or a comma; or by spaces, if both have a file ending or a
    folder. A line in double quotes is one name, whatever it holds. Blank lines are left out.

    Returns:
        Names of image and mask as they are in the file; None where there is no second column.

    Raises:
        ValueError: The file cannot be read as text, or has more than two columns.
    """
    try:
        lines = Path(path).read_text(encoding='utf-8-sig').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f'The list of names {path} cannot be read: {error}.') from error
    names: list[Name] = []
    for number, line in enumerate(lines, 1):
        if re.fullmatch('".+"', line.strip()):
            names.append((line.strip()[1:-1], None))
            continue
        columns = [one.strip() for one in line.replace(',', '\t').split('\t') if one.strip()]
        parts = line.split()
        if len(parts) == 2 and all('/' in one or has_image_suffix(one) for one in parts):
            columns = parts
        if len(columns) > 2:
            raise ValueError(
                f'Line {number} of {path} has {len(columns)} columns: {line.strip()!r}. Allowed '
                'are the name of an image and, behind a tab, the name of its mask.'
            )
        if columns:
            names.append((columns[0], columns[1] if len(columns) == 2 else None))
    return names


def has_image_suffix(name: str) -> bool:
    """Return whether a file name ends as images or arrays do, in upper or lower case."""
    return os.path.splitext(name)[1].lower() in _DATA_SUFFIXES


def list_pairs(
    image_folder: str,
    mask_folder: str | None,
    *,
    img_suffix: Endings,
    seg_map_suffix: str,
    names: Sequence[Name] | None = None,
) -> Pairing:
    """List images and find their masks; each folder is listed once, with its subfolders.

    The mask of an image has its name, with `seg_map_suffix` in the place of `img_suffix`. Hidden
    files and folders are passed over.

    Args:
        image_folder: Where the images are.
        mask_folder: Where the masks are; may be the same folder. None: no image has one.
        img_suffix: How names of images end, such as '.jpg' or '_leftImg8bit.png'; or several such
            endings. None: the endings of images, in upper or lower case, and '.npy'.
        seg_map_suffix: How names of masks end, such as '.png' or '_gtFine_labelIds.png'.
        names: Use these alone, as `read_split_list` returns them: with or without the ending, and
            with or without leading folders.

    Raises:
        ValueError: Two images would have the same mask, or two names mean the same image.
    """
    files = list_files(image_folder)
    masks = set(list_files(mask_folder)) if mask_folder else set()
    stems = {name: stem for name in files if (stem := stem_of(name, img_suffix)) is not None}
    images = {name: stem + seg_map_suffix for name, stem in stems.items()}
    if mask_folder:  # in one folder, masks have the endings of images, too
        inside = os.path.relpath(mask_folder, image_folder)
        taken = {os.path.normpath(os.path.join(inside, mask)) for mask in images.values()}
        images = {name: mask for name, mask in images.items() if name not in taken}
    _check_unique(images, image_folder)
    chosen, absent = sorted(images.items()), list[str]()
    if names is not None:
        found, absent = choose_names(names, {name: stems[name] for name in images})
        chosen = [
            (name, match_name(mask, masks) or mask if mask else images[name])
            for name, mask in found
        ]
    result = Pairing(names_without_image=absent)
    for name, mask in chosen:
        image, path = os.path.join(image_folder, name), os.path.join(mask_folder or '', mask)
        if mask in masks:
            result.pairs.append((image, path))
        else:
            result.images_without_mask.append(image)
            result.missing_masks += [path] * bool(mask_folder)
    if names is None:
        free = {one for one in masks if one.endswith(seg_map_suffix)} - {*images.values()}
        spare = {os.path.join(mask_folder or '', one) for one in free}
        others = {os.path.join(image_folder, one) for one in files if has_image_suffix(one)}
        used = {path for pair in result.pairs for path in pair} | {*result.images_without_mask}
        result.masks_without_image += sorted(spare - used)
        result.other_images += sorted(others - used - spare)
    return result


def choose_names(
    names: Sequence[Name], stems: Mapping[str, str]
) -> tuple[list[tuple[str, str | None]], list[str]]:
    """Find the files that names mean.

    Args:
        names: As `read_split_list` returns them.
        stems: Each file, and its name without the ending.

    Returns:
        For each name its file and the given mask; and the names of no file.

    Raises:
        ValueError: Two different names mean the same file.
    """
    known = {stem: name for name, stem in stems.items()} | {name: name for name in stems}
    chosen, absent = [], []
    spelling: dict[str, str] = {}
    for given, mask in names:
        # Or without its ending: of the mask, or of the file before it was converted.
        found = match_name(given, known) or match_name(os.path.splitext(given)[0], known)
        if found is None:
            absent.append(given)
            continue
        name = known[found]
        if spelling.setdefault(name, given) != given:
            raise ValueError(
                f'The names {spelling[name]!r} and {given!r} mean the same image, {name}. Remove '
                'one of them, or set data_prefix.img_path to the folder above both.'
            )
        chosen.append((name, mask))
    return chosen, absent


def list_files(folder: str) -> list[str]:
    """Return the files below `folder`, relative to it; without hidden ones."""
    found = []
    for place, below, files in os.walk(folder, followlinks=True):
        below[:] = [name for name in below if not name.startswith('.')]
        inside = os.path.relpath(place, folder)
        prefix = '' if inside == '.' else inside + os.sep
        found += [prefix + name for name in files if not name.startswith('.')]
    return found


def stem_of(name: str, img_suffix: Endings) -> str | None:
    """Return the name of an image without its ending; None if it has none of `img_suffix`."""
    if img_suffix is None:
        return os.path.splitext(name)[0] if has_image_suffix(name) else None
    endings = [img_suffix] if isinstance(img_suffix, str) else img_suffix
    fitting = max((one for one in endings if name.endswith(one)), key=len, default=None)
    return None if fitting is None else name[: len(name) - len(fitting)]


def match_name(given: str, known: Container[str]) -> str | None:
    """Return what is known of a name, without as many of its leading folders as necessary."""
    parts = given.replace('\\', '/').lstrip('/').split('/')
    tails = (os.path.join(*parts[first:]) for first in range(len(parts)))
    return next((tail for tail in tails if tail in known), None)


def _check_unique(images: Mapping[str, str], folder: str) -> None:
    owners: dict[str, str] = {}
    for name, mask in sorted(images.items()):
        if (other := owners.setdefault(mask, name)) != name:
            raise ValueError(
                f'{folder} has two images of one name, {other} and {name}: both would have the '
                f'same mask. Set img_suffix={os.path.splitext(other)[1]!r} to use one ending, or '
                'remove one of the files.'
            )
