"""Write results: whole or not at all, and label maps as PNG files with a palette."""

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .index_png import IndexPng


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
        ValueError: The labels are neither uint8 nor uint16.
        OSError: The disk is full or the folder cannot be written.
    """
    content = io.BytesIO()
    png = IndexPng(content, labels.shape[:2], labels.dtype, palette)
    png.write(labels)
    png.finish()
    write_bytes(path, content.getvalue())


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


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
