"""What importing vit_dense does and does not do to the process; each case in a fresh one."""

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

BLOCK = """
import importlib.abc

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {names!r}:
            raise ModuleNotFoundError(f'{{name}} is blocked', name=name)

sys.meta_path.insert(0, Blocker())
"""
# The demo's model of a task, built as its config says: one image through all of it.
FORWARD = """
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

config = Config.fromfile({config!r})
init_default_scope(config.default_scope)
model = MODELS.build(config.model).eval()
sample = sys.modules[{library!r} + '.structures'].{sample}(
    metainfo=dict(img_shape=(64, 96), ori_shape=(64, 96), scale_factor=(1.0, 1.0), img_id=0)
)
image = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)
with torch.no_grad():
    (found,) = model.test_step(dict(inputs=[image], data_samples=[sample]))
print(tuple(found.{result}))
"""
SEGMENT = FORWARD.format(
    config=str(ROOT / 'configs/vit_upernet_demo.py'),
    library='mmseg',
    sample='SegDataSample',
    result='pred_sem_seg.data.shape',
)
DETECT = FORWARD.format(
    config=str(ROOT / 'configs/vit_maskrcnn_demo.py'),
    library='mmdet',
    sample='DetDataSample',
    result='pred_instances.masks.shape[1:]',
)


def _run(code: str, *paths: Path, blocked: tuple[str, ...] = ()) -> str:
    """Runs `code` and returns what it prints last; packages in `blocked` cannot be imported."""
    lines = [f'import sys; sys.path[:0] = {[str(p) for p in (*paths, ROOT)]!r}']
    lines += [BLOCK.format(names=blocked)] if blocked else []
    program = '\n'.join([*lines, textwrap.dedent(code)])
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', program], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return (done.stdout.strip().splitlines() or [''])[-1]


def test_pretraining_needs_no_task() -> None:
    _run('import vit_dense.pretraining', blocked=('mmseg', 'mmdet'))


def test_core_imports_alone_and_the_tasks_name_their_extra() -> None:
    out = _run(
        """
        import vit_dense
        import vit_dense.inspection.report
        vit_dense.compat.apply()
        messages = []
        for name in ('mmcv', 'vit_dense.segmentation', 'vit_dense.detection'):
            try:
                __import__(name)
            except ImportError as error:
                messages.append(str(error))
        print(messages)
        """,
        blocked=('mmcv', 'mmseg', 'mmdet'),
    )
    assert ast.literal_eval(out) == [
        'mmcv is blocked',
        'mmseg is not installed. Run pip install "vit_dense[seg]".',
        'mmdet is not installed. Run pip install "vit_dense[det]".',
    ]


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


@pytest.mark.parametrize(
    ('task', 'blocked', 'printed'),
    [(SEGMENT, 'mmdet', '(1, 64, 96)'), (DETECT, 'mmseg', '(64, 96)')],
    ids=['seg', 'det'],
)
def test_either_task_runs_without_the_others_library(task: str, blocked: str, printed: str) -> None:
    """What `[seg]` alone and `[det]` alone install."""
    other = {'mmdet': 'detection', 'mmseg': 'segmentation'}[blocked]
    checks = f"""
assert not [name for name in sys.modules if name.partition('.')[0] == {blocked!r}]
assert not [name for name in sys.modules if name.startswith('vit_dense.{other}')]
"""
    assert _run(task + checks, blocked=(blocked,)) == printed


@pytest.mark.slow
def test_both_tasks_run_in_one_process() -> None:
    """What `[all]` installs; going from one to the other and back."""
    assert _run(SEGMENT + DETECT + SEGMENT) == '(1, 64, 96)'


@pytest.mark.slow
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
