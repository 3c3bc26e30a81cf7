"""Data sets over HTTP: mmengine 0.10.7 cannot join addresses, and waits for servers without end."""

import time
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from mmengine.fileio import HTTPBackend

__all__ = ['install']

_SECONDS = 60
_ATTEMPTS = 3


def install() -> None:
    """Replace `HTTPBackend.get`, and add `join_path`, which data sets call with `data_root`."""
    HTTPBackend.get = _get
    HTTPBackend.join_path = _join_path


def _get(self: HTTPBackend, filepath: str) -> bytes:
    """Read a file; a server that does not answer is asked again.

    Raises:
        ValueError: The server does not have the file, or does not answer.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with urlopen(filepath, timeout=_SECONDS) as response:
                return bytes(response.read())
        except (URLError, TimeoutError, ConnectionError) as error:
            absent = isinstance(error, HTTPError) and error.code < 500
            if absent or attempt == _ATTEMPTS:
                raise ValueError(
                    f'{filepath} cannot be read: {error}. Correct data_root, data_prefix or '
                    'ann_file in the config, or see whether the server runs.'
                ) from error
            time.sleep(attempt)
    raise AssertionError('unreachable')


def _join_path(self: HTTPBackend, filepath: str, *filepaths: str) -> str:
    """Join parts of an address with single slashes."""
    return '/'.join([filepath.rstrip('/'), *(part.strip('/') for part in filepaths if part)])
