"""What the tests beside it share."""

from collections.abc import Iterator

import pytest
from mmengine.registry import DefaultScope

import vit_dense  # noqa: F401 - mmseg and mmdet import only after it, on a plain install


@pytest.fixture
def in_mmdet() -> Iterator[None]:
    """Names are looked up as under a detection config."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield
