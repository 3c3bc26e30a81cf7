"""The memory of a training process does not grow with iterations and validations."""

import os
from pathlib import Path

import pytest
from processes import ROOT, TRAIN, start

from examples.streets import DemoSpec, write_demo_dataset

# VIT_DENSE_MEMORY_ITERATIONS=2000 takes about ten minutes on one core.
ITERATIONS = int(os.environ.get('VIT_DENSE_MEMORY_ITERATIONS', 400))
VALIDATIONS = 20
LIMIT = 1800  # seconds
CONFIG = f"""
_base_ = {str(ROOT / 'configs' / 'vit_upernet_demo.py')!r}
crop_size = (64, 64)
model = dict(data_preprocessor=dict(size=crop_size))
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(
    pipeline=[*_base_.test_pipeline[:1], dict(type='LoadAnnotations'),
              dict(type='RandomCrop', crop_size=crop_size), dict(type='PackSegInputs')]))
val_dataloader = dict(num_workers=0, persistent_workers=False)
train_cfg = dict(max_iters={ITERATIONS}, val_interval={ITERATIONS // VALIDATIONS})
default_hooks = dict(checkpoint=dict(interval={ITERATIONS // VALIDATIONS}, max_keep_ckpts=1))
custom_imports = dict(imports=['vit_dense.segmentation', 'resident'], allow_failed_imports=False)
custom_hooks = [dict(type='ResidentMemory')]
"""
HOOK = """
import pathlib
import re
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class ResidentMemory(Hook):
    def after_val(self, runner):
        status = pathlib.Path('/proc/self/status').read_text()
        with open('resident.txt', 'a') as file:
            print(re.search(r'VmRSS:\\s+(\\d+)', status)[1], file=file)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path('/proc/self/status').exists(), reason="reads Linux's /proc")
def test_resident_memory_is_flat(tmp_path: Path) -> None:
    write_demo_dataset(tmp_path / 'data/demo', DemoSpec(4, 2, 64, 80))
    (tmp_path / 'small.py').write_text(CONFIG)
    (tmp_path / 'resident.py').write_text(HOOK)
    process = start(TRAIN, 'small.py', '--work-dir', 'work', cwd=tmp_path)
    _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, errors
    kilobytes = [int(line) for line in (tmp_path / 'resident.txt').read_text().split()]
    assert len(kilobytes) == VALIDATIONS
    # The allocator fills its caches in the first validations.
    assert max(kilobytes[-5:]) - max(kilobytes[2:7]) < 20_000
