"""What the tests beside it share."""

from pathlib import Path

import pytest
from multitask_configs import write_data


@pytest.fixture(scope='session')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images for each split, with masks and boxes."""
    return write_data(tmp_path_factory.mktemp('data'))
