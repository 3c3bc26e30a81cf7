"""Write results: whole or not at all, and label maps as PNG files with a palette."""

import contextlib
import os
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_PNG_SIGNATURE = 8  # bytes
_IHDR = 25  # bytes: length, type, 13 of content, checksum
_COLOUR_TYPE = _PNG_SIGNATURE + 8 + 9
_PALETTE_TYPE = 3


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary file beside `path`, which takes its name at the end.

    A process that is stopped leaves no half file, and an existing file stays until the new one is
    complete. Folders are created.

    Raises:
        OSError: The disk is full or the folder cannot be written.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix='.', suffix=target.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp's files are for their owner alone
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file whole or not at all; see `replacing`.

    Raises:
        OSError: The disk is full or the folder cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_picture(path: str | Path, picture: NDArray[np.uint8]) -> None:
    """Write an RGB picture `(H, W, 3)` in the format that the suffix of `path` names.

    Raises:
        ValueError: OpenCV does not know the format.
        OSError: The disk is full or the folder cannot be written.
    """
    write_bytes(path, _encode(Path(path).suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)))


def write_index_png(path: str | Path, labels: NDArray[Any], palette: NDArray[np.uint8]) -> None:
    """Write `(H, W)` class indices as PNG, with `palette` if they fit into 8 bits.

    Raises:
        OSError: The disk is full or the folder cannot be written.
    """
    content = _encode('.png', labels)
    write_bytes(path, _with_palette(content, palette) if labels.dtype == np.uint8 else content)


def encode_mask(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the uncompressed run lengths of COCO: columns first, beginning with zeros."""
    flat = np.asarray(mask, np.uint8).ravel(order='F')
    changes = np.flatnonzero(np.diff(flat, prepend=np.uint8(0)))
    counts = np.diff(np.concatenate([[0], changes, [flat.size]]))
    return {'size': list(mask.shape), 'counts': counts.astype(int).tolist()}


def _encode(suffix: str, picture: NDArray[Any]) -> bytes:
    try:
        done, content = cv2.imencode(suffix, picture)
    except cv2.error as error:
        raise ValueError(f'OpenCV cannot write {suffix or "files without suffix"}') from error
    if not done:
        raise ValueError(f'OpenCV cannot write {suffix}')
    return content.tobytes()


def _with_palette(png: bytes, palette: NDArray[np.uint8]) -> bytes:
    """Turn a grey PNG of 8 bits into one of indices: another colour type, and the colours.

    The pixels of both types are stored alike (PNG specification, 11.2.2 and 11.2.3).
    """
    header = bytearray(png[: _PNG_SIGNATURE + _IHDR])
    header[_COLOUR_TYPE] = _PALETTE_TYPE
    start = _PNG_SIGNATURE + 4
    header[-4:] = zlib.crc32(header[start:-4]).to_bytes(4, 'big')
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(palette)] = palette
    chunk = b'PLTE' + colours.tobytes()
    length, check = (colours.size).to_bytes(4, 'big'), zlib.crc32(chunk).to_bytes(4, 'big')
    return bytes(header) + length + chunk + check + png[_PNG_SIGNATURE + _IHDR :]


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
