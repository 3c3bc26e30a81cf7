"""Config inheritance across packages: `_base_ = 'vit_dense::...'` and `'mmseg::...'`.

mmengine has a fixed table from import names to distribution names, asserts on any other package,
and finds a package's folder by its distribution; without an installed distribution of that name it
imports the name. Both fail in practice: the maintained forks have other distribution names
(`onedl-mmsegmentation` provides `mmseg`), and the distribution of an editable install is not in the
folder of the code.
"""

from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec

from mmengine.config.utils import MODULE2PACKAGE

__all__ = ['install']

# A module directly in the package. No distribution has its name, so that mmengine takes the folder
# from the import system, which is right for every kind of install.
_OUR_ANCHOR = 'vit_dense.version'


def install() -> None:
    """Add this package to mmengine's table and map packages installed under another name."""
    MODULE2PACKAGE['vit_dense'] = _OUR_ANCHOR
    for module, package in MODULE2PACKAGE.items():
        renamed = module != package and module != 'vit_dense' and not _has_distribution(package)
        if renamed and find_spec(module) is not None:
            MODULE2PACKAGE[module] = module


def _has_distribution(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
