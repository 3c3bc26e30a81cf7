"""Report versions, and what is broken in this environment with the command that repairs it.

Only the standard library is imported before the checks, and `vit_dense/__init__.py` lets this
command through when its own imports fail: it must run where torch does not.
"""

import platform
import re
import sys
import warnings
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from ..version import __version__

# Import name -> the distribution that vit_dense asks for, and a pattern of all that provide it.
PROVIDERS = {
    'torch': ('torch', r'torch'),
    'torchvision': ('torchvision', r'torchvision'),
    'timm': ('timm', r'timm'),
    'mmengine': ('mmengine', r'mmengine(-lite)?|onedl-mmengine'),
    'mmcv': ('mmcv-lite', r'mmcv(-lite|-full)?|onedl-mmcv(-.*)?'),
    'mmseg': ('mmsegmentation', r'(onedl-)?mmsegmentation'),
    'mmdet': ('mmdet', r'mmdet|onedl-mmdetection'),
}
_OPTIONAL = ('mmcv', 'mmseg', 'mmdet')
# Modules that vit_dense's dependencies import and that carry another name than their distribution.
_OWNERS = {'pkg_resources': 'setuptools', 'cv2': 'opencv-python', 'PIL': 'pillow'}
_AGAIN = 'Repair what is listed above first, then run `vit-dense doctor` again.'

# Name -> requirement, as far as `packaging` could read them.
Requirements = dict[str, Any]


def main() -> int:
    """Print the report; return 1 if something is broken, else 0."""
    if sys.argv[1:]:
        print('usage: vit-dense doctor\n\nReport versions, and what is broken here.')
        return 0 if sys.argv[1] in ('-h', '--help') else 2
    warnings.simplefilter('ignore')
    asked = requirements()
    problems: dict[str, str] = {}  # command that repairs -> what is broken
    _row('vit_dense', __version__, str(Path(__file__).parents[1]))
    _row('python', platform.python_version(), platform.platform())
    for name, (wanted, pattern) in PROVIDERS.items():
        found = installed(pattern)
        error = _import_error(name) if found or name not in _OPTIONAL else None
        state = 'not importable' if error else '' if found else 'not installed'
        _row(name, ', '.join(f'{v} ({k})' for k, v in found.items()) or '-', state)
        _check_versions(found, wanted, asked, problems)
        if error:
            _explain(name, error, asked, problems)
    _row('mmcv ops', mmcv_ops(), '')
    _row('device', device(), '')
    if error := _import_error('vit_dense.engine'):
        _explain('vit_dense', error, asked, problems)
    if not asked:
        print('Versions were not compared: vit_dense is not installed by pip, or packaging is not.')
    for command, message in problems.items():
        print(f'\n{message}\n  {command}')
    print(f'\n{len(problems) or "no"} problem{"s" * (len(problems) != 1)} found')
    return int(bool(problems))


def requirements() -> Requirements:
    """Return what the installed vit_dense asks for, its extras included, by distribution."""
    try:
        from packaging.requirements import Requirement

        every = [Requirement(line) for line in metadata.requires('vit_dense') or []]
    except (ImportError, metadata.PackageNotFoundError):
        return {}
    return {one.name: one for one in every}


def installed(pattern: str) -> dict[str, str]:
    """Return the versions of the installed distributions whose names match `pattern`."""
    found: dict[str, str] = {}
    for one in metadata.distributions():
        name = re.sub(r'[-_.]+', '-', one.metadata['Name'] or '').lower()
        if re.fullmatch(pattern, name):
            found.setdefault(name, one.version)  # the first on the path is the one in use
    return found


def mmcv_ops() -> str:
    """Return where the ops of `mmcv._ext` come from."""
    try:
        compiled = getattr(import_module('mmcv._ext'), '__file__', None)
    except Exception as error:
        return f'none ({_first_line(error)})'
    return f'compiled ({compiled})' if compiled else 'supplied by vit_dense, without compiler'


def device() -> str:
    """Return the accelerator that torch sees."""
    try:
        import torch

        if torch.cuda.is_available():
            return f'{torch.cuda.get_device_name()} (CUDA {torch.version.cuda})'
        built = f'built for CUDA {torch.version.cuda}' if torch.version.cuda else 'without CUDA'
        return f'CPU (torch {built})'
    except Exception as error:
        return f'unknown ({_first_line(error)})'


def _check_versions(
    found: dict[str, str], wanted: str, asked: Requirements, problems: dict[str, str]
) -> None:
    if len(found) > 1:
        names = sorted(found)
        command = f'pip uninstall -y {" ".join(names)} && {_install([wanted], asked)}'
        problems[command] = f'{" and ".join(names)} overwrite the files of each other: keep one.'
        return
    for name, version in found.items():
        if wanted not in asked or name.startswith('onedl-'):  # the forks count in their own way
            continue
        specifier = asked[wanted].specifier
        if not specifier.contains(version, prereleases=True):
            problems[f'pip install "{name}{specifier}"'] = (
                f'{name} {version} is outside the tested versions {specifier}.'
            )


def _import_error(name: str) -> Exception | None:
    try:
        import_module(name)
    except Exception as error:
        return error
    return None


def _explain(name: str, error: Exception, asked: Requirements, problems: dict[str, str]) -> None:
    if isinstance(error, ModuleNotFoundError) and error.name:
        module = error.name.partition('.')[0]
        owner = PROVIDERS[module][0] if module in PROVIDERS else _OWNERS.get(module, module)
        command = _install([owner], asked)
    elif problems:
        command = _AGAIN
    else:
        owners = [PROVIDERS[name][0] if name in PROVIDERS else name]
        if name in ('torch', 'torchvision'):  # compiled for each other
            owners = ['torch', 'torchvision']
        command = _install(owners, asked, '--force-reinstall ')
    problems.setdefault(command, f'{name} cannot be imported: {_first_line(error)}')


def _install(names: list[str], asked: Requirements, options: str = '') -> str:
    wanted = (f'"{name}{asked[name].specifier}"' if name in asked else name for name in names)
    return f'pip install {options}{" ".join(wanted)}'


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _row(name: str, value: str, note: str) -> None:
    print(f'{name:12} {value}  {note}'.rstrip())
