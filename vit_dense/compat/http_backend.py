"""Data sets over HTTP: mmengine 0.10.7 cannot join addresses, and waits for servers without end."""

from urllib.error import URLError
from urllib.request import urlopen

from mmengine.fileio import HTTPBackend

__all__ = ['RemoteFileError', 'install']

_SECONDS = 60


class RemoteFileError(OSError, ValueError):
    """A file that a server does not have, or does not send."""


def install() -> None:
    """Replace `HTTPBackend.get`, and add `join_path`, which data sets call with `data_root`."""
    HTTPBackend.get = _get
    HTTPBackend.join_path = _join_path


def _get(self: HTTPBackend, filepath: str) -> bytes:
    """Read a file.

    Raises:
        RemoteFileError: The server does not have the file, or does not answer.
    """
    try:
        with urlopen(filepath, timeout=_SECONDS) as response:
            return bytes(response.read())
    except (URLError, TimeoutError, ConnectionError) as error:
        raise RemoteFileError(
            f'{filepath} cannot be read: {error}. Correct data_root, data_prefix or ann_file in '
            'the config, or see whether the server runs.'
        ) from error


def _join_path(self: HTTPBackend, filepath: str, *filepaths: str) -> str:
    """Join parts of an address with single slashes."""
    return '/'.join([filepath.rstrip('/'), *(part.strip('/') for part in filepaths if part)])
