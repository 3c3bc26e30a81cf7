"""`vit-dense run`: scripts of other projects run as under python, with the missing ops supplied."""

import json
import subprocess
import sys
from pathlib import Path

import mmdet
import mmseg
import pytest
from processes import run

from examples.streets import CLASSES, PALETTE, DemoSpec, write_demo_dataset

RUN = ('-m', 'vit_dense', 'run')
MMSEG_TOOLS = Path(mmseg.__file__).parent / '.mim' / 'tools'
MMDET_TOOLS = Path(mmdet.__file__).parent / '.mim' / 'tools'

# What a script sees of the way in which it was started.
PROBE = """
import json, sys
import beside
print(json.dumps([
    sys.argv, sys.path[0], __name__, __file__, sys.modules['__main__'].__name__, beside.__name__,
]))
sys.exit(3)
"""
# mmseg's own model and data set, and nothing of vit_dense: on mmcv-lite it needs the stand-ins.
CONFIG = """
default_scope = 'mmseg'
data = dict(
    type='BaseSegDataset', data_root={data!r}, img_suffix='.png',
    metainfo=dict(classes={classes!r}, palette={palette!r}),
    data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
    pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
              dict(type='PackSegInputs')])
train_dataloader = dict(batch_size=2, num_workers=0, dataset=data,
                        sampler=dict(type='InfiniteSampler', shuffle=True))
val_dataloader = dict(batch_size=1, num_workers=0, dataset=data,
                      sampler=dict(type='DefaultSampler', shuffle=False))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', size=(64, 80)),
    backbone=dict(type='ResNetV1c', depth=18, base_channels=4, norm_cfg=dict(type='BN')),
    decode_head=dict(type='FCNHead', in_channels=32, in_index=3, channels=8, num_convs=1,
                     num_classes=len(data['metainfo']['classes'])),
    test_cfg=dict(mode='whole'))
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2))
log_processor = dict(by_epoch=False)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a script, a package and a module beside the script."""
    (tmp_path / 'scripts').mkdir()
    (tmp_path / 'scripts' / 'probe.py').write_text(PROBE)
    (tmp_path / 'scripts' / 'beside.py').touch()
    (tmp_path / 'package').mkdir()
    (tmp_path / 'package' / '__init__.py').touch()
    (tmp_path / 'package' / 'probe.py').write_text(PROBE.replace('import beside', 'beside = json'))
    return tmp_path


@pytest.mark.parametrize(
    'target',
    [('scripts/probe.py',), pytest.param(('-m', 'package.probe'), marks=pytest.mark.slow)],
)
def test_a_script_sees_what_python_itself_would_show(
    target: tuple[str, ...], project: Path
) -> None:
    arguments = (*target, '--work-dir', 'a b', '-m')
    plain = subprocess.run(
        [sys.executable, *arguments], cwd=project, capture_output=True, text=True, check=False
    )
    ours = run(*RUN, *arguments, cwd=project)
    assert plain.returncode == ours.returncode == 3, ours.stderr
    assert json.loads(plain.stdout) == json.loads(ours.stdout)


@pytest.mark.slow
def test_a_module_that_does_not_exist_is_named_without_a_stack(project: Path) -> None:
    for name in ('nowhere', 'package.nowhere', 'package'):
        done = run(*RUN, '-m', name, cwd=project)
        assert done.returncode == 2
        assert done.stderr.startswith('Error: ')
        assert name in done.stderr
        assert 'Traceback' not in done.stderr
    (project / 'mine.py').write_text('import nowhere')
    done = run(*RUN, '-m', 'mine', cwd=project)
    assert done.returncode == 1
    assert 'mine.py", line 1' in done.stderr, 'an import of the module itself'


@pytest.mark.slow
def test_a_script_imports_mmdet_first_and_its_errors_pass_through(project: Path) -> None:
    text = 'from mmdet.apis import init_detector\nfrom mmseg.apis import init_model\n'
    (project / 'mine.py').write_text(f'{text}print("in", __doc__)\nraise RuntimeError("mine")')
    done = run(*RUN, 'mine.py', cwd=project)
    assert done.stdout.splitlines()[-1] == 'in None', done.stderr
    assert done.stderr.rstrip().endswith('RuntimeError: mine')
    assert done.returncode == 1


@pytest.mark.slow
def test_the_tools_in_the_wheel_of_mmseg_train_and_test(tmp_path: Path) -> None:
    data = write_demo_dataset(tmp_path / 'data', DemoSpec(3, 1, 64, 80))
    text = CONFIG.format(data=str(data), classes=CLASSES, palette=PALETTE)
    (tmp_path / 'theirs.py').write_text(text)
    done = run(*RUN, MMSEG_TOOLS / 'train.py', 'theirs.py', '--work-dir', 'out', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'out' / 'iter_2.pth').is_file()
    tool = MMSEG_TOOLS / 'test.py'
    done = run(*RUN, tool, 'theirs.py', 'out/iter_2.pth', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'mIoU' in done.stdout + done.stderr


@pytest.mark.slow
def test_the_tools_in_the_wheel_of_mmdet_start(tmp_path: Path) -> None:
    done = run(*RUN, MMDET_TOOLS / 'train.py', '--help', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('usage: train.py')
