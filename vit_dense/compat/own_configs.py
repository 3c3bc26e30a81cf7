"""`_base_ = 'vit_dense::vit_upernet_ade20k.py'`, as if the file lay beside the one that names it.

Two habits of mmengine stand in the way, beyond its table of packages. It wants a folder after
`::`, which our flagship has not; and it marks everything inherited with the package's name as the
registry scope, where `EncoderDecoder` or `LoadImageFromFile` are then sought and not found: they
are mmseg's. Ours are in the root registry, so that inherited values need no mark at all.
"""

from difflib import get_close_matches
from pathlib import Path

from mmengine.config import Config

__all__ = ['config_path', 'install']

_PREFIX = 'vit_dense::'
_PACKAGE = Path(__file__).parents[1]
_mmengine_get_cfg_path = Config._get_cfg_path


def install() -> None:
    """Answers for `vit_dense::`; every other base is mmengine's business as before."""
    Config._get_cfg_path = staticmethod(_get_cfg_path)


def config_path(name: str) -> Path:
    """Returns the config called `name`, such as 'vit_upernet_ade20k.py'.

    In a checkout, an editable install included, that is the file itself; elsewhere the copy that
    the build put into the package.

    Raises:
        ValueError: no config of that name.
    """
    is_checkout = (_PACKAGE.parent / 'setup.py').is_file()
    folder = _PACKAGE.parent / 'configs' if is_checkout else _PACKAGE / '.mim' / 'configs'
    path = folder / name
    if not path.is_file():
        known = sorted(file.relative_to(folder).as_posix() for file in folder.rglob('*.py'))
        near = get_close_matches(name, known, n=3) or known[:3]
        raise ValueError(f'vit_dense has no config {name!r}: did you mean {", ".join(near)}?')
    return path


def _get_cfg_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
    """The path of a base and the registry scope that its values get."""
    if cfg_path.startswith(_PREFIX):
        return str(config_path(cfg_path.removeprefix(_PREFIX))), None
    return _mmengine_get_cfg_path(cfg_path, filename)
