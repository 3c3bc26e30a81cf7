"""Reading weight files from disk: `.pth`, `.pt`, `.bin`, `.safetensors` and Google's `.npz`.

Nothing read here may run code: torch files go through a restricted unpickler, `.npz` archives
are opened without pickle support and safetensors hold no objects. Whatever is wrong with a file
ends in one `CheckpointReadError` that names it.
"""

import argparse
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vit_dense.compat.safe_load import safe_load

from .record import SECTION

__all__ = ['CheckpointReadError', 'read_checkpoint', 'unwrap']

# Where training scripts keep the weights inside a file, most wanted first: an average over
# training (timm, BEiT; DINO's teacher is one too) beats the last iterate. mmengine's
# `ema_state_dict` is not here on purpose: it stores the average under `state_dict`.
_SECTIONS = (
    'state_dict_ema',
    'model_ema',
    'teacher',
    'state_dict',
    'model',
    'module',
    'target_encoder',
    'encoder',
)
# What Hugging Face writes beside the files of a large model: which tensor is in which.
_INDEX = '.safetensors.index.json'
# Bounds for compressed .npz files: trained weights hardly shrink, zeros shrink a thousandfold.
_MAX_EXPANSION, _SMALL = 20, 2**26
_TORCH_SUFFIXES = ('.pth', '.pt', '.bin', '.tar', '.ckpt')


class CheckpointReadError(ValueError):
    """A weight file that is broken, unsafe or of an unknown kind."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a weight file without running anything it contains.

    Args:
        path: Local file, whose suffix tells the format; or a folder as Hugging Face writes them,
            with one `.safetensors` file, or several and their index, which may be named itself.

    Returns:
        The file's outermost dictionary on the CPU; `.npz` arrays become tensors under their
        own names (`Transformer/encoderblock_0/...`).

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointReadError: If the file is truncated, holds objects other than plain data and
            tensors, is no dictionary, or has an unknown suffix.
    """
    path = Path(path)
    if '://' in str(path) or str(path).startswith(('http:/', 'https:/')):
        raise CheckpointReadError(
            f'checkpoint={str(path)!r} is an address; give a local file, or pretrained=True to '
            'let timm download the weights of model_name'
        )
    if path.is_dir():
        path = _weights_in(path)
    if not path.is_file():
        raise FileNotFoundError(
            f'checkpoint {str(path)!r} does not exist (looked from {Path.cwd()}); give the path of '
            'a .pth, .pt, .bin, .safetensors or .npz file, or of a folder of .safetensors files'
        )
    if path.name.endswith(_INDEX):
        return _read_shards(path)
    _refuse_stand_ins(path)
    suffix = path.suffix.lower()
    if suffix == '.npz':
        content: Any = _read_npz(path)
    elif suffix == '.safetensors':
        content = _read_safetensors(path)
    elif suffix in _TORCH_SUFFIXES:
        content = _read_torch(path)
    else:
        raise CheckpointReadError(
            f'checkpoint {str(path)!r} has the unknown suffix {suffix!r}; known are '
            f'{", ".join(_TORCH_SUFFIXES)}, .safetensors, .npz'
        )
    if not isinstance(content, Mapping):
        raise CheckpointReadError(
            f'checkpoint {str(path)!r} holds a {type(content).__name__}, not a dictionary of '
            'tensors; save `model.state_dict()` instead'
        )
    return dict(content)


def unwrap(content: Mapping[str, Any], name: str) -> tuple[dict[str, Tensor], str]:
    """Descend to the state dict inside a training checkpoint.

    Args:
        content: What `read_checkpoint` returned, or a state dict.
        name: How to call it in an error.

    Returns:
        The tensors by name, and the path of sections gone through (`'model_ema'`, or `''`).

    Raises:
        CheckpointReadError: If no tensor is found.
    """
    sections: list[str] = []
    while True:
        inner = next(
            (key for key in _SECTIONS if isinstance(content.get(key), Mapping) and content[key]),
            None,
        )
        if inner is None:
            break
        sections.append(inner)
        content = content[inner]
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        keys = ', '.join(repr(str(key)) for key in list(content)[:5]) or 'nothing'
        raise CheckpointReadError(
            f'{name} holds no tensors (found {keys}); expected a state dict, bare or under one '
            f'of {", ".join(_SECTIONS)}'
        )
    return tensors, '.'.join(sections)


def read_tensors(
    source: str | Path | Mapping[str, Any],
) -> tuple[dict[str, Tensor], str, str, dict[str, Any]]:
    """Read the state dict in a file, or in what was read from one.

    Returns:
        The tensors by name; how to call the source in a message; the section as in `unwrap`; what
        the file says about its pretraining (`record`), or nothing.

    Raises:
        FileNotFoundError, CheckpointReadError: As `read_checkpoint` and `unwrap`.
    """
    if isinstance(source, Mapping):
        name, content = '<state dict>', dict(source)
    else:
        name, content = str(source), read_checkpoint(source)
    tensors, section = unwrap(content, name)
    meta = content.get('meta')
    return tensors, name, section, meta.get(SECTION, {}) if isinstance(meta, Mapping) else {}


def _refuse_stand_ins(path: Path) -> None:
    """Name the two files people download by mistake: a git-lfs pointer and a web page."""
    try:
        with path.open('rb') as file:
            head = file.read(64).lstrip().lower()
    except OSError as error:
        raise CheckpointReadError(f'checkpoint {str(path)!r} cannot be opened: {error}') from error
    if not head:
        raise CheckpointReadError(f'checkpoint {str(path)!r} is empty; fetch it again')
    if head.startswith(b'version https://git-lfs'):
        raise CheckpointReadError(
            f'checkpoint {str(path)!r} is a git-lfs pointer, not the weights; run `git lfs pull`'
        )
    if head.startswith((b'<!doctype html', b'<html')):
        raise CheckpointReadError(
            f'checkpoint {str(path)!r} is a web page, not a weight file; download the file itself'
        )


def _broken(path: Path, error: Exception) -> CheckpointReadError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    size = path.stat().st_size
    return CheckpointReadError(
        f'checkpoint {str(path)!r} ({size} bytes) cannot be read: it is truncated or damaged '
        f'({reason}); compare its size with the original and fetch it again'
    )


def _read_npz(path: Path) -> dict[str, Tensor]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            declared = sum(entry.file_size for entry in archive.zip.infolist())
            if declared > max(_MAX_EXPANSION * path.stat().st_size, _SMALL):
                raise ValueError(f'it declares {declared:,} bytes of arrays')
            return {key: torch.from_numpy(archive[key]) for key in archive.files}
    # Damage shows as almost any exception: zipfile and numpy expect well-formed files.
    except Exception as error:
        raise _broken(path, error) from error


def _weights_in(folder: Path) -> Path:
    """Return the weight file, or the index of several, in a folder."""
    found = sorted(folder.glob(f'*{_INDEX}')) or sorted(folder.glob('*.safetensors'))
    if len(found) == 1:
        return found[0]
    listed = ', '.join(path.name for path in found) or 'none'
    raise FileNotFoundError(
        f'checkpoint {str(folder)!r} is a folder; it must hold exactly one *{_INDEX} or '
        f'*.safetensors file (found {listed}): give the path of the file'
    )


def _read_shards(index: Path) -> dict[str, Tensor]:
    """Read the files that an index names; every tensor of the index must be there."""
    try:
        places = dict(json.loads(index.read_text(encoding='utf-8'))['weight_map'])
        names = sorted({str(name) for name in places.values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _broken(index, error) from error
    for name in names:
        if Path(name).name != name or not name.endswith('.safetensors'):
            raise CheckpointReadError(f'{index} names {name!r}, not a .safetensors file beside it')
    if absent := [name for name in names if not index.with_name(name).is_file()]:
        raise CheckpointReadError(
            f'{index} names {len(absent)} of {len(names)} files that are not beside it '
            f'({", ".join(absent[:3])}); download the rest of the folder'
        )
    tensors: dict[str, Tensor] = {}
    for name in names:
        tensors |= read_checkpoint(index.with_name(name))
    if lost := sorted(places.keys() - tensors.keys()):
        raise CheckpointReadError(
            f'{index} names {len(lost)} tensors that its files lack ({lost[0]}, ...); copy all '
            f'files of the folder again'
        )
    return tensors


def _read_safetensors(path: Path) -> dict[str, Any]:
    # A requirement of timm, hence always there; imported here to keep the package's import light.
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework='pt') as file:
            record = json.loads((file.metadata() or {}).get(SECTION, '{}'))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return {'meta': {SECTION: record}, **tensors}
    except (SafetensorError, OSError, ValueError) as error:
        raise _broken(path, error) from error


def _read_torch(path: Path) -> Any:
    if _is_torchscript(path):
        raise CheckpointReadError(
            f'checkpoint {str(path)!r} is a TorchScript program (OpenAI publishes CLIP so), not a '
            'file of weights; if you trust its origin, save '
            '`torch.jit.load(path, map_location="cpu").state_dict()` with torch.save and give that'
        )
    try:
        # timm, DeiT, MAE and DINO keep their command line, a plain Namespace, beside the weights.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return safe_load(path)
    except ValueError as error:
        raise CheckpointReadError(str(error)) from error


def _is_torchscript(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith('/constants.pkl') for name in archive.namelist())
    except Exception:  # damaged in whatever way, or no archive; torch says what is wrong
        return False
