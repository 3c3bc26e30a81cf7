"""Say in one line what is wrong with image files that cannot be read, or only in part."""

from pathlib import Path

_JPEG, _SOS, _EOI = b'\xff\xd8\xff', 0xDA, b'\xff\xd9'
_MARKUP = (b'<!doctype', b'<html', b'<?xml', b'<head')


class BadFileError(ValueError):
    """A file of the data is missing, empty or damaged; the message names it."""


def read_checked(path: str | Path) -> bytes:
    """Return the content of an image file that is there, not empty and not cut off.

    Raises:
        BadFileError: It is not; one line that names the file.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise BadFileError(f'{path}: {error.strerror or error}') from error
    if damage := describe_damage(content):
        raise BadFileError(f'{path}: {damage}')
    return content


def describe_damage(content: bytes) -> str | None:
    """Return what is wrong with the content of an image file; None if nothing is seen."""
    if not content:
        return 'the file is empty (0 bytes)'
    if content[:64].lstrip().lower().startswith(_MARKUP):
        return 'this is a web page (HTML), not an image'
    if content.startswith(_JPEG) and not _is_complete_jpeg(content):
        return 'the JPEG file is cut off'
    return None


def _is_complete_jpeg(content: bytes) -> bool:
    """Return whether the image ends: OpenCV 4 fills the missing part with grey without an error.

    Walks over the segments, which may hold a thumbnail, to the first scan. In its data, the two
    bytes of an end marker cannot occur otherwise (ITU-T T.81, B.1.1).
    """
    position = 2
    while position + 4 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker == _SOS:
            return content.find(_EOI, position) >= 0
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        position += 2 + int.from_bytes(content[position + 2 : position + 4], 'big')
    return False
