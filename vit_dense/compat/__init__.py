"""What plain pip wheels lack, supplied: one small file per gap, each inactive beside the real thing.

| file                | gap                                                                      |
|---------------------|--------------------------------------------------------------------------|
| `mmcv_ext`          | `mmcv-lite` has no compiled `mmcv._ext`, so mmseg and mmdet do not import |
"""

from . import mmcv_ext

__all__ = ['apply']


def apply() -> None:
    """Installs every remedy; calling it again changes nothing.

    Imports none of mmcv, mmseg and mmdet, and works where they are not installed.
    """
    mmcv_ext.install()
