"""Without the folder `vit_dense/released`, everything but its own tests and leaves works."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / 'vit_dense'
# What a missing folder looks like to Python, told to every process by its environment.
BLOCK = "import sys; sys.modules['vit_dense.released'] = None\n"
USE = """
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
import vit_dense.segmentation, vit_dense.detection
from vit_dense.weights import recognise_foreign

assert MODELS.get('ReleasedTimmViT') is None and MODELS.get('ViTAdapter') is not None
config = Config.fromfile('configs/vit_upernet_ade20k.py').model.backbone
config.vit.update(pretrained=False, model_kwargs=dict(depth=4))
with torch.device('meta'):
    state = MODELS.build(config).state_dict()
assert recognise_foreign(state) is None
print('done')
"""
# The packages that files of other projects pass through.
SUITES = ('weights', 'adapters', 'backbones/test_timm_vit.py', 'engine', 'configs/test_configs.py')


@pytest.fixture
def blocked(tmp_path) -> dict[str, str]:
    (tmp_path / 'sitecustomize.py').write_text(BLOCK)
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get('PYTHONPATH', '')])
    return {**os.environ, 'PYTHONPATH': path}


def run(command: list[str], env: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, *command], env=env, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_the_package_works_without_it(blocked):
    assert run(['-c', USE], blocked).strip().endswith('done')


@pytest.mark.slow
def test_the_other_suites_pass_without_it(blocked):
    suites = [f'tests/{name}' for name in SUITES]
    options = ['-m', 'not slow', '-k', 'not released', '-p', 'no:cacheprovider']
    assert ' passed' in run(['-m', 'pytest', *suites, *options], blocked)


def test_nobody_else_imports_it():
    importers = {
        file.relative_to(PACKAGE).as_posix()
        for file in PACKAGE.rglob('*.py')
        if not {'released', 'configs', '.mim'} & set(file.relative_to(PACKAGE).parts[:1])
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom | ast.Import) and 'released' in ast.unparse(node)
    }
    assert importers == {'__init__.py'}
