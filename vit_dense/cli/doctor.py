"""Report versions and what is broken here; nothing but the standard library is needed to run."""

import platform
import re
import sys
import warnings
from collections.abc import Iterator
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from .. import register
from ..cpu import CPU_INFO, has_bfloat16_units
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
# Others that write into one folder: a pattern of their names -> the one to keep.
_SHARED_FOLDERS = {
    r'opencv-(contrib-)?python(-headless)?': 'opencv-python',
    r'onnxruntime(-gpu)?': 'onnxruntime-gpu',  # runs on CPUs, too
}
# What the extras of vit_dense install. Their absence is no problem.
_EXTRAS = {
    'onnxruntime': ('export', r'onnxruntime(-.+)?'),
    'openvino': ('export', r'openvino'),
    'rasterio': ('geo', r'rasterio'),
    'sahi': ('slice', r'sahi'),
    'gradio': ('web', r'gradio'),
}
# Other modules that are named differently from their distribution.
_OWNERS = {'pkg_resources': 'setuptools', 'cv2': 'opencv-python', 'PIL': 'pillow'}
# Not from an index by name, where another package might have it.
_OURS = 'Install vit_dense again from its source, or report the stack of: python -c "import {}"'
_AGAIN = 'Repair what is listed above first, then run `vit-dense doctor` again.'

Asked = dict[str, Any]  # distribution -> its requirement, from `packaging`
Problems = dict[str, str]  # command that repairs -> what is broken


def main() -> int:
    """Print the report; return 1 if something is broken, else 0."""
    if sys.argv[1:]:
        print('usage: vit-dense doctor\n\nReport versions, and what is broken here.')
        return 0 if sys.argv[1] in ('-h', '--help') else 2
    warnings.simplefilter('ignore')
    core = _core_error()  # first: it makes the others importable
    asked, problems = requirements(), Problems()
    _row('vit_dense', f'{__version__} ({Path(__file__).parents[1]})')
    _row('python', f'{platform.python_version()} ({platform.platform()})')
    _check_torchvision(problems)
    for name, (wanted, pattern) in PROVIDERS.items():
        found = installed(pattern)
        error = _import_error(name) if found or name not in _OPTIONAL else None
        versions = ', '.join(f'{version} ({one})' for one, version in found.items())
        _row(name, (versions or 'not installed') + ' - not importable' * bool(error))
        _check_versions(found, wanted, asked, problems)
        if error:
            _explain(name, error, asked, problems)
    _row('mmcv ops', mmcv_ops())
    _row('device', device())
    _row('CPU bf16', cpu_bf16())
    for name, (extra, pattern) in _EXTRAS.items():
        versions = ', '.join(f'{version} ({one})' for one, version in installed(pattern).items())
        _row(name, versions or f'not installed, optional: pip install "vit_dense[{extra}]"')
    for pattern, kept in _SHARED_FOLDERS.items():
        if len(found := installed(pattern)) > 1:
            _check_versions(found, kept, asked, problems)
    for name, error in _own_errors(core):
        _explain(name, error, asked, problems)
    if not asked:
        print('Versions were not compared: this needs vit_dense installed by pip, and packaging.')
    for command, message in problems.items():
        print(f'\n{message}\n  {command}')
    print(f'\n{len(problems) or "no"} problem{"s" * (len(problems) != 1)} found')
    return int(bool(problems))


def requirements() -> Asked:
    """Return what the installed vit_dense asks for, its extras included, by distribution."""
    try:
        parse = import_module('packaging.requirements').Requirement
        return {one.name: one for one in map(parse, metadata.requires('vit_dense') or [])}
    except (ImportError, metadata.PackageNotFoundError):
        return {}


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
        torch = import_module('torch')
        cuda = torch.version.cuda
        if torch.cuda.is_available():
            return f'{torch.cuda.get_device_name()} (CUDA {cuda})'
        return f'CPU (torch built {f"for CUDA {cuda}" if cuda else "without CUDA"})'
    except Exception as error:
        return f'unknown ({_first_line(error)})'


def cpu_bf16() -> str:
    """Return whether the CPU has units for bfloat16, without which it is slower than float32."""
    units = has_bfloat16_units(CPU_INFO)
    if units is None:
        return 'unknown'
    return 'yes' if units else 'no units: bfloat16 is slower than float32'


def _check_torchvision(problems: Problems) -> None:
    """Compare torch with the version that the installed torchvision was compiled for."""
    found = installed('torch') | installed('torchvision')
    if len(found) < 2:
        return
    for text in metadata.requires('torchvision') or []:
        wanted = re.match(r'torch\s*\(?\s*==\s*([\w.]+)', text)
        if wanted and found['torch'].partition('+')[0] != wanted[1]:
            release = found['torch'].partition('+')[0]
            problems[f'pip install --upgrade "torch=={release}" torchvision'] = (
                f'torchvision {found["torchvision"]} is compiled for torch {wanted[1]}, not for '
                f'torch {found["torch"]}.'
            )


def _check_versions(found: dict[str, str], wanted: str, asked: Asked, problems: Problems) -> None:
    if len(found) > 1:
        names = sorted(found)
        command = f'pip uninstall -y {" ".join(names)} && {_install([wanted], asked)}'
        problems[command] = f'{" and ".join(names)} overwrite the files of each other: keep one.'
        return
    for name, version in found.items():
        fork = name.startswith('onedl-')  # with version numbers of its own
        allowed = None if fork or wanted not in asked else asked[wanted].specifier
        if allowed and not allowed.contains(version, prereleases=True):
            message = f'{name} {version} is outside the tested versions {allowed}.'
            problems[f'pip install "{name}{allowed}"'] = message


def _core_error() -> Exception | None:
    try:
        register()
    except Exception as error:
        return error
    return None


def _own_errors(core: Exception | None) -> Iterator[tuple[str, Exception]]:
    """Yield what cannot be imported of vit_dense: the core, and what the installed tasks need."""
    if core:
        yield 'vit_dense', core
        return
    for library, part in (('mmseg', 'vit_dense.segmentation'), ('mmdet', 'vit_dense.detection')):
        error = _import_error(part) if library in sys.modules else None
        if error:
            yield part, error


def _import_error(name: str) -> Exception | None:
    try:
        import_module(name)
    except Exception as error:
        return error
    return None


def _explain(name: str, error: Exception, asked: Asked, problems: Problems) -> None:
    absent = error.name if isinstance(error, ModuleNotFoundError) else None
    if absent and '.' not in absent:  # else a part of a package that is there
        command = _install([_owner(absent)], asked)
    elif problems:
        command = _AGAIN
    elif name.partition('.')[0] == 'vit_dense':
        command = _OURS.format(name)
    else:
        pair = ['torch', 'torchvision']  # compiled for each other
        command = _install(pair if name in pair else [_owner(name)], asked, '--force-reinstall ')
    problems.setdefault(command, f'{name} cannot be imported: {_first_line(error)}')


def _owner(module: str) -> str:
    return PROVIDERS[module][0] if module in PROVIDERS else _OWNERS.get(module, module)


def _install(names: list[str], asked: Asked, options: str = '') -> str:
    wanted = (f'"{name}{asked[name].specifier}"' if name in asked else name for name in names)
    return f'pip install {options}{" ".join(wanted)}'


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _row(name: str, value: str) -> None:
    print(f'{name:12} {value}')
