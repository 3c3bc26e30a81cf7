"""Check that the images of a COCO annotation file are there, whole, and of the size it gives."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .files import ignores_orientation, missing_files, picture_size, spread_evenly
from .image_files import read_checked

Entry = Mapping[str, Any]

_NAMES_SHOWN = 5


def check_images(
    path: str,
    content: Entry,
    image_folder: str,
    *,
    limit: int | None = None,
    color_type: str = 'color',
    skip_damaged: bool = False,
) -> None:
    """Check that images exist, are listed once, can be read, and have the size that the file says.

    Args:
        path: The annotation file, for the message.
        content: From `read_annotations`.
        image_folder: The folder that `file_name` is relative to.
        limit: Maximum number of images to open, spread evenly; None opens all.
        color_type: That of the pipeline's `LoadImageFromFile`, which decides whether EXIF turns
            images.
        skip_damaged: Whether images that cannot be read are left to `bad_files='skip'`.

    Raises:
        ValueError: Images are missing, listed twice, damaged, or have another size; the message
            names the first ones.
    """
    images = content['images']
    _check_listed_once(path, images)
    paths = [os.path.join(image_folder, one['file_name']) for one in images]
    if missing := missing_files(paths):
        shown = '\n'.join(f'  {paths[index]}' for index in missing[:_NAMES_SHOWN])
        hint = _hint(Path(image_folder), images[missing[0]]['file_name'])
        raise ValueError(
            f'{len(missing)} of the {len(images)} images that {path} lists are missing, among them:'
            f'\n{shown}\n{hint}'
        )
    # Readers of other formats give 0 as the size of an image that they could not open.
    unknown = [index for index, one in enumerate(images) if 0 in (one['width'], one['height'])]
    for index in (*unknown[:1], *spread_evenly(len(images), limit)):
        _check_image(path, images[index], paths[index], color_type, skip_damaged)


def _check_listed_once(path: str, images: list[Entry]) -> None:
    seen: dict[str, Entry] = {}
    for one in images:
        if (first := seen.setdefault(one['file_name'], one)) is not one:
            raise ValueError(
                f'{path} lists the image {one["file_name"]} twice, with the ids {first["id"]!r} '
                f'and {one["id"]!r}: each would be trained and measured without the objects of the '
                'other. Give their annotations one image_id, and remove the other entry.'
            )


def _hint(folder: Path, name: str) -> str:
    """Say where the image of a wrong `file_name` is, and what to change."""
    parts = name.replace('\\', '/').split('/')
    for start in range(len(parts)):
        for parent in (folder, *list(folder.parents)[:3]):
            found = parent.joinpath(*parts[start:])
            if not found.is_file():
                continue
            changes = ['write / for \\ in file_name'] * ('\\' in name)
            if start:
                changes.append(f'remove {"/".join(parts[:start])!r} from file_name')
            if parent != folder:
                changes.append(f'set data_prefix=dict(img=...) to the folder {parent}')
            return f'{found} is there: {", and ".join(changes)}.'
    return 'Put them there, or set data_prefix=dict(img=...): file names start in that folder.'


def _check_image(path: str, image: Entry, file: str, color_type: str, skip_damaged: bool) -> None:
    try:
        read_checked(file)
    except ValueError as error:
        if skip_damaged:
            return
        raise ValueError(f'{error}. Replace it, or remove its image from {path}.') from error
    size, given = picture_size(file, color_type), (image['width'], image['height'])
    if size is None and 0 in given and not skip_damaged:
        raise ValueError(f'{file} is no image that can be opened. Replace it.')
    if size is None or size == given:
        return
    advice = 'Correct width and height, and the boxes.'
    other = 'color' if ignores_orientation(color_type) else 'color_ignore_orientation'
    if picture_size(file, other) == given:
        advice = (
            f'Its EXIF orientation makes the difference: with color_type={other!r} in the '
            'LoadImageFromFile of all pipelines it is loaded in that size.'
        )
    raise ValueError(
        f'{file} has {size[0]}x{size[1]} pixels, {path} says {given[0]}x{given[1]}: its boxes '
        f'belong to another version of the image. {advice}'
    )
