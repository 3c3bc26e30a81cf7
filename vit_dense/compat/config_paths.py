"""Configs of this package as bases: `_base_ = 'vit_dense::vit_upernet_ade20k.py'`.

mmengine 0.10.7 does not accept this, for two reasons beside its table of packages. It requires a
folder after `::`, and our main config has none. It also marks all inherited values with the name of
the package as their registry scope, and would look up `EncoderDecoder` or `LoadImageFromFile` there
although they are mmseg's. Our own classes are in the root registry and need no mark.
"""

from difflib import get_close_matches
from functools import cache
from pathlib import Path

from mmengine.config import Config

__all__ = ['CONFIG_PREFIX', 'config_path', 'install', 'is_ours']

CONFIG_PREFIX = 'vit_dense::'
_PACKAGE = Path(__file__).parents[1]
_INSTALLED = ('site-packages', 'dist-packages')
_mmengine_get_cfg_path = Config._get_cfg_path


def install() -> None:
    """Resolve `vit_dense::`; mmengine resolves every other base as before."""
    Config._get_cfg_path = staticmethod(_get_cfg_path)


def config_path(name: str) -> Path:
    """Return the path of the config called `name`, such as 'vit_upernet_ade20k.py'.

    In a checkout, also an editable install, that is the file itself; elsewhere the copy that the
    build put into the package.

    Raises:
        ValueError: If there is no config of that name.
    """
    folder = _folder()
    path = folder / name
    if not path.is_file():
        known = sorted(file.relative_to(folder).as_posix() for file in folder.rglob('*.py'))
        near = get_close_matches(name, known, n=3) or known[:3]
        raise ValueError(f'vit_dense has no config {name!r}: did you mean {", ".join(near)}?')
    return path


@cache
def is_ours(path: str) -> bool:
    """Return whether an absolute path is that of a config of this package."""
    return Path(path).resolve().is_relative_to(_folder().resolve())


def _folder() -> Path:
    return _PACKAGE.parent / 'configs' if _is_checkout() else _PACKAGE / '.mim' / 'configs'


def _is_checkout() -> bool:
    """Tell a checkout from an installed package, beside which others may leave files."""
    root = _PACKAGE.parent
    ours = ('build_support/flatten_configs.py', 'configs/vit_upernet_ade20k.py')
    return root.name not in _INSTALLED and all((root / name).is_file() for name in ours)


def _get_cfg_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
    """Return the path of a base and the registry scope of its values."""
    if cfg_path.startswith(CONFIG_PREFIX):
        return str(config_path(cfg_path.removeprefix(CONFIG_PREFIX))), None
    return _mmengine_get_cfg_path(cfg_path, filename)
