"""Import mmseg and mmdet with an error that names compatible versions.

mmseg and mmdet assert on mmcv's version at import and name only its lower bound, so that the newest
mmcv ends in "incompatible, please install mmcv>=2.0.0rc4". Their own check is kept, as the
maintained forks have other bounds.
"""

from importlib import import_module
from types import ModuleType

__all__ = ['require']

_EXTRAS = {'mmseg': 'seg', 'mmdet': 'det'}
_TESTED = 'mmcv-lite 2.1.0 (or compiled mmcv 2.1.0), mmengine 0.10.7, mmseg 1.2.2, mmdet 3.3.0'


def require(name: str) -> ModuleType:
    """Import the package `name` ('mmseg' or 'mmdet') and return it.

    Raises:
        ValueError: If `name` is another package.
        ImportError: If it is missing, lacks a package that it needs, or refuses the installed
            versions of mmcv or mmengine.
    """
    if name not in _EXTRAS:
        raise ValueError(f'got package {name!r}; allowed are {", ".join(_EXTRAS)}')
    install = f'pip install "vit_dense[{_EXTRAS[name]}]"'
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        missing = (
            f'{name} is not installed'
            if error.name == name
            else f'{name} needs the package {error.name!r}, which is not installed'
        )
        raise ImportError(f'{missing}. Run {install}.') from error
    except AssertionError as error:
        raise ImportError(
            f'{name} refuses the versions installed beside it ({error}). Tested together are '
            f'{_TESTED}. Run {install}, or install compiled mmcv in that version.'
        ) from error
