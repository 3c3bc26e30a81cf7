"""Read checkpoints without executing anything in them.

torch >= 2.6 reads with `weights_only=True`, which refuses every class it does not know; mmengine
0.10.7 stores its `HistoryBuffer` and numpy numbers in each checkpoint, so its own files no longer
load. The usual workarounds (`weights_only=False`, allowing `builtins.getattr`) let a crafted file
run code. Here torch's restricted reader still reads the file, and resolves the few names that
mmengine's files mention to inert classes of this module. They record the content of the file, from
which plain numbers are made afterwards. Nothing that a file names is ever imported or called; a
file that names anything else is refused.
"""

import hashlib
import os
import pickle
import re
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import IO, Any
from urllib.parse import unquote, urlparse

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint as mmengine_checkpoint
from torch import serialization

from .checkpoint_sanitizer import restore_histories

__all__ = ['install', 'safe_load']

# The end of a name such as `resnet50-0676ba61.pth`: the first digits of the content's SHA-256.
_CONTENT_HASH = re.compile(r'-[0-9a-f]{8,}\.\w+$')


def safe_load(
    source: str | os.PathLike[str] | IO[bytes], map_location: serialization.MAP_LOCATION = 'cpu'
) -> dict[str, Any]:
    """Read a PyTorch checkpoint, also one written by stock mmengine, and execute nothing in it.

    Args:
        source: A file written by `torch.save` in zip or legacy format, or its opened content.
        map_location: As for `torch.load`.

    Returns:
        The checkpoint. Histories of mmengine's message hub come back as `HistoryBuffer`, numpy
        arrays as arrays, numpy scalars as Python numbers.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged (CRC-32 of zip files) or no checkpoint, if it names code
            to run, or if it holds something else than a dict.
    """
    if isinstance(source, str | os.PathLike):
        source = Path(source).expanduser()
        if not source.is_file():
            raise FileNotFoundError(f'checkpoint {str(source)!r} does not exist; check the path')
        name, size = repr(str(source)), source.stat().st_size
    else:
        name, size = 'from a file server', source.seek(0, os.SEEK_END)
        source.seek(0)
    try:
        _verify_zip(source, size)
        with _inert_globals():
            content = torch.load(source, map_location=map_location, weights_only=True)
        content = _revive(content)
    except pickle.UnpicklingError as error:
        # Without its cause: torch's own message advises to switch the protection off.
        raise ValueError(_explain(name, size, error)) from None
    # Damage shows as almost any exception: torch's readers expect well-formed files.
    except Exception as error:
        raise ValueError(_explain(name, size, error)) from error
    if not isinstance(content, dict):
        raise ValueError(
            f'checkpoint {name}: got a {type(content).__name__} at the top level; it must '
            f'be a dict (of weights, or with a `state_dict`). Save `model.state_dict()` instead.'
        )
    if not isinstance(weights := content.get('state_dict', {}), dict):
        raise ValueError(
            f'checkpoint {name}: `state_dict` is a {type(weights).__name__}; it must be a dict of '
            'weights. Save `model.state_dict()` there.'
        )
    restore_histories(content)
    return content


def install() -> None:
    """Make mmengine read checkpoints of every URL scheme with `safe_load`.

    All of its loaders (`''`, `http://`, `torchvision://`, `open-mmlab://`, `s3://` and others)
    end in one of two functions, which they look up in their own module: `torch.load` and
    `load_url`. Both are replaced there and nowhere else.
    """
    vars(mmengine_checkpoint).update(torch=_SafeTorch('torch'), load_url=_load_url)


class _SafeTorch(ModuleType):
    """The module `torch` with a `load` that executes nothing."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def load(
        source: str | os.PathLike[str] | IO[bytes],
        map_location: serialization.MAP_LOCATION = None,
        **ignored: Any,  # such as weights_only=False, which is never granted
    ) -> dict[str, Any]:
        """Read a .safetensors file or a PyTorch checkpoint."""
        if isinstance(source, str | os.PathLike) and Path(source).suffix == '.safetensors':
            return {'state_dict': _read_safetensors(source)}
        return safe_load(source, map_location)


def _read_safetensors(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f'{path} is not a valid .safetensors file: {error}. Copy it again.'
        ) from error


def _load_url(
    url: str,
    model_dir: str | None = None,
    map_location: serialization.MAP_LOCATION = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Download a file into torch's hub cache, once, and read it there."""
    folder = Path(model_dir or os.path.join(torch.hub.get_dir(), 'checkpoints'))
    path = folder / _cache_name(url)
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            # Under another name until it is complete.
            torch.hub.download_url_to_file(url, str(path), progress=progress)
        except OSError as error:  # URLError is one
            raise ValueError(
                f'{url} could not be downloaded ({error}). Without network, give the path of a '
                f'local copy instead of the address, or save the copy as {path}.'
            ) from error
    return _SafeTorch.load(path, map_location)


def _cache_name(url: str) -> str:
    """Return a name that no other content has.

    It is the URL's own, as torch's hub stores it, if that carries the hash of the content, and is
    extended by a hash of the URL otherwise: `model.pth` of two servers are two files.
    """
    name = Path(unquote(urlparse(url).path)).name
    if _CONTENT_HASH.search(name):
        return name
    stem, suffix = os.path.splitext(name)
    return f'{stem}.url-{hashlib.sha256(url.encode()).hexdigest()[:16]}{suffix}'


def _verify_zip(source: Path | IO[bytes], size: int) -> None:
    """Compare the CRC-32 of each entry, which torch's reader does not; nothing for other formats.

    Raises:
        ValueError, zipfile.BadZipFile: An entry differs, or entries declare more than `size` bytes.
    """
    with source.open('rb') if isinstance(source, Path) else nullcontext(source) as file:
        is_zip = file.read(4) == b'PK\x03\x04'
        if is_zip:
            with zipfile.ZipFile(file) as archive:
                declared = sum(entry.file_size for entry in archive.infolist())
                # torch.save does not compress.
                if declared > size:
                    raise ValueError(f'it declares {declared:,} bytes of content')
                if damaged := archive.testzip():
                    raise ValueError(f'{damaged} does not match its CRC-32')
        file.seek(0)


def _explain(name: str, size: int, error: Exception) -> str:
    refused = re.search(r'GLOBAL (\S+)', str(error))
    if refused:
        return (
            f'checkpoint {name} names {refused[1]!r}, which is neither weights nor a plain '
            f'value: reading it would run code that the file chooses, so it is refused. If you '
            f'trust its source, save the weights alone where they were made: '
            f"torch.save({{'state_dict': model.state_dict()}}, path)."
        )
    # torch puts its advice on `weights_only` before the reason, and more after it.
    text = str(error).rpartition('WeightsUnpickler error: ')[2].strip()
    reason = (text or type(error).__name__).splitlines()[0]
    # A name alone, e.g. 101, says nothing; advice to switch the protection off is never passed on.
    if isinstance(error, KeyError) or 'weights_only' in reason:
        reason = 'not a pickle file'
    return (
        f'checkpoint {name} ({size} bytes) cannot be read ({reason}): it is '
        f'damaged, cut short, or not written by torch.save with its default protocol. Download or '
        f'copy it again.'
    )


@contextmanager
def _inert_globals() -> Iterator[None]:
    """Resolve mmengine's and numpy's names to inert classes, even if a user has allowed them."""
    with _LOCK:
        allowed = serialization.get_safe_globals()
        others = [item for item in allowed if _global_name(item) not in _INERT]
        inert = [(answer, name) for name, answer in _INERT.items()]
        try:
            serialization.clear_safe_globals()
            serialization.add_safe_globals([*others, *inert])
            yield
        finally:
            serialization.clear_safe_globals()
            serialization.add_safe_globals(allowed)


# torch keeps one list of allowed names per process.
_LOCK = threading.Lock()


def _global_name(item: Any) -> str:
    return item[1] if isinstance(item, tuple) else f'{item.__module__}.{item.__qualname__}'


class _Inert:
    """Placeholder for an object of the file, which records its arguments and its state."""

    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any) -> '_Inert':
        self = super().__new__(cls)
        self.args, self.state = args, None
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def revive(self) -> Any:
        """Return the plain value that arguments and state describe."""
        raise NotImplementedError


class _History(_Inert):
    """`HistoryBuffer`: state `_log_history`, `_count_history`, `max_length`."""

    def revive(self) -> HistoryBuffer:
        state = self.state
        log, count = _revive(state['_log_history']), _revive(state['_count_history'])
        return HistoryBuffer(log, count, int(_revive(state['max_length'])))


class _Dtype(_Inert):
    """`numpy.dtype`: arguments `('f8', False, True)`, state `(3, '<', ...)`."""

    def revive(self) -> np.dtype[Any]:
        name = self.args[0]
        if not isinstance(name, str) or name[:1] not in 'biufcSU' or not name[1:].isdigit():
            raise ValueError(f'numpy data type {name!r} is no number or text')
        dtype = np.dtype(name)
        return dtype.newbyteorder('>') if self.state and self.state[1] == '>' else dtype


class _Array(_Inert):
    """`numpy.ndarray`: state `(version, shape, dtype, is_fortran, raw bytes)`."""

    def revive(self) -> np.ndarray[Any, Any]:
        _, shape, dtype, is_fortran, raw = self.state
        flat = np.frombuffer(raw, dtype.revive())
        # Column-major bytes are the row-major bytes of the transposed array.
        return (flat.reshape(shape[::-1]).T if is_fortran else flat.reshape(shape)).copy()


class _Scalar(_Inert):
    """`numpy.core.multiarray.scalar`: arguments dtype, raw bytes."""

    def revive(self) -> Any:
        dtype, raw = self.args
        return np.frombuffer(raw, dtype.revive()).item()


class _Reference(_Inert):
    """`builtins.getattr(HistoryBuffer, 'mean')`: the statistics that every history has."""

    def revive(self) -> None:
        """Return None: the real `HistoryBuffer` has its own statistics."""


def _new_array(*args: Any) -> _Array:
    return _Array()


# All names in stock mmengine's files that torch does not allow. numpy renamed its core in 2.0.
_INERT: dict[str, Callable[..., Any]] = {
    'mmengine.logging.history_buffer.HistoryBuffer': _History,
    'builtins.getattr': _Reference,
    'numpy.dtype': _Dtype,
    'numpy.ndarray': _Array,
    'numpy.core.multiarray._reconstruct': _new_array,
    'numpy._core.multiarray._reconstruct': _new_array,
    'numpy.core.multiarray.scalar': _Scalar,
    'numpy._core.multiarray.scalar': _Scalar,
}


def _revive(value: Any) -> Any:
    """Replace inert objects by the plain values they describe, in nested containers."""
    if isinstance(value, _Inert):
        return value.revive()
    if isinstance(value, dict):
        # In place: an OrderedDict may carry torch's `_metadata`.
        for key in value:
            value[key] = _revive(value[key])
        return value
    if type(value) in (list, tuple, set):
        return type(value)(_revive(item) for item in value)
    return value
