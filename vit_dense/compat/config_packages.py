"""Config inheritance across packages: `_base_ = 'vit_dense::...'` and `'mmseg::...'`.

mmengine knows a fixed table from import name to distribution name, asserts on any other package,
and finds a package's folder by its distribution: where an installed distribution of the tabled
name is missing it falls back to importing that name. Both halves fail in practice: the maintained
forks carry other distribution names (`onedl-mmsegmentation` provides `mmseg`), and an editable
install has a distribution whose folder is not where the code lies.
"""

from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec

from mmengine.config.utils import MODULE2PACKAGE

__all__ = ['install']

# A module that lies directly in the package. No distribution bears its name, so that mmengine
# takes the folder from the import system, which is right for every kind of install.
_OUR_ANCHOR = 'vit_dense.version'


def install() -> None:
    """Adds this package to mmengine's table and maps packages installed under another name."""
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
