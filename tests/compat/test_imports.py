"""What importing vit_dense does and does not do to the process; each case in a fresh one."""

import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _run(code: str, *paths: Path) -> str:
    lines = [f'import sys; sys.path[:0] = {[str(p) for p in (*paths, ROOT)]!r}']
    program = '\n'.join([*lines, textwrap.dedent(code)])
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_core_imports_without_mmcv_mmseg_and_mmdet() -> None:
    out = _run("""
        import importlib.abc, importlib.util

        class Blocker(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                if name.partition('.')[0] in ('mmcv', 'mmseg', 'mmdet'):
                    raise ModuleNotFoundError(f'{name} is blocked', name=name)

        sys.meta_path.insert(0, Blocker())
        import vit_dense
        vit_dense.compat.apply()
        try:
            import mmcv
        except ModuleNotFoundError as error:
            print(error)
    """)
    assert out == 'mmcv is blocked'


def test_core_imports_where_mmcv_is_not_installed() -> None:
    out = _run("""
        import importlib.machinery
        find = importlib.machinery.PathFinder.find_spec
        absent = ('mmcv', 'mmseg', 'mmdet')

        def without(name, *args):
            return None if name.partition('.')[0] in absent else find(name, *args)

        importlib.machinery.PathFinder.find_spec = staticmethod(without)
        import vit_dense
        try:
            import mmcv._ext
        except ModuleNotFoundError as error:
            print(error)
    """)
    assert out == "No module named 'mmcv'"


def test_compiled_mmcv_wins(tmp_path: Path) -> None:
    package = tmp_path / 'mmcv'
    package.mkdir()
    (package / '__init__.py').write_text('')
    (package / '_ext.py').write_text("nms = 'the real one'")
    out = _run(
        """
        import vit_dense
        assert not {'mmcv', 'mmseg', 'mmdet'} & set(sys.modules)
        before = list(sys.meta_path)
        vit_dense.compat.apply()
        assert sys.meta_path == before
        import mmcv._ext
        print(mmcv._ext.nms)
    """,
        tmp_path,
    )
    assert out == 'the real one'
