"""What all tests share: one thread, reproducible numbers, `tests` importable by its helpers."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope
from torch import distributed

sys.path.insert(0, str(Path(__file__).parent))
# small tensors: threads cost more than they bring, and other runs share the cores
torch.set_num_threads(1)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker('cuda') and not torch.cuda.is_available():
        pytest.skip('needs a CUDA device')


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_scope_left_behind():
    """A Runner makes its scope the current one for good; the next test must not inherit it."""
    yield
    DefaultScope._instance_dict.clear()


@pytest.fixture(scope='module')
def process_group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A group of this process alone."""
    store = tmp_path_factory.mktemp('store') / 'file'
    distributed.init_process_group('gloo', init_method=f'file://{store}', rank=0, world_size=1)
    yield
    distributed.destroy_process_group()
