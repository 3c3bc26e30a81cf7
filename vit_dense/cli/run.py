"""Run a script of another project with what mmcv-lite lacks in place.

Scripts that import mmcv, mmseg or mmdet themselves end in "No module named 'mmcv._ext'" beside
mmcv-lite. Here `vit_dense`, which supplies the missing module, is imported before the first line of
the script. Everything else is as under `python SCRIPT` and `python -m MODULE`: `sys.argv`,
`sys.path[0]`, `__name__ == '__main__'`, the exit code. Processes that the script itself spawns
(multiprocessing's method 'spawn') start without `vit_dense`; forked ones inherit it.
"""

import io
import os
import runpy
import sys
import traceback
from types import ModuleType

from .. import register

USAGE = """\
usage: vit-dense run SCRIPT ARGS...
       vit-dense run -m MODULE ARGS...

Run a Python script or module with the ops that mmcv-lite lacks supplied by vit_dense, e.g.
  vit-dense run mmdetection/tools/train.py CONFIG --work-dir work_dirs/mine"""
_USAGE_ERROR = 2


def main() -> int:
    """Run what `sys.argv` names in this process; its exceptions and `sys.exit` pass through."""
    arguments = sys.argv[1:]
    if arguments[:1] in (['-h'], ['--help']):
        print(USAGE)
        return 0
    as_module = arguments[:1] == ['-m']
    target, *rest = arguments[as_module:] or ['']
    if not target:
        print(USAGE, file=sys.stderr)
        return _USAGE_ERROR
    if as_module:
        register()
        _set_first_path(os.getcwd())
        sys.argv = [target, *rest]  # `run_module` replaces the first entry by the module's file
        return _run_module(target)
    if not os.path.isfile(target):
        print(
            f'Error: script not found: {target}. Give the path of a Python file, or -m and the '
            'name of a module.',
            file=sys.stderr,
        )
        return _USAGE_ERROR
    register()
    _set_first_path(os.path.dirname(os.path.realpath(target)))
    sys.argv = [target, *rest]
    _run_file(os.path.abspath(target))
    return 0


def _run_module(name: str) -> int:
    try:
        runpy.run_module(name, run_name='__main__', alter_sys=True)
    except ImportError as error:
        places = traceback.extract_tb(error.__traceback__)
        if places[-1].name != '_get_module_details':  # runpy's, where it finds no such module
            raise
        print(f'Error: {error}', file=sys.stderr)
        return _USAGE_ERROR
    return 0


def _run_file(path: str) -> None:
    """Run a file as `__main__`, for good: `runpy.run_path` would change `sys.argv[0]`."""
    with io.open_code(path) as source:
        code = compile(source.read(), path, 'exec', dont_inherit=True)
    module = ModuleType('__main__')
    module.__file__ = path
    sys.modules['__main__'] = module
    exec(code, module.__dict__)


def _set_first_path(folder: str) -> None:
    """Replace the folder of our own script, which Python put first, by the one it would put."""
    if not getattr(sys.flags, 'safe_path', False):  # with `python -P` there is none
        sys.path[0] = folder
