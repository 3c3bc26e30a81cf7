"""FixedViews: a stated number of augmented versions of each image."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from torch.utils.data import DataLoader

import vit_dense.engine  # noqa: F401 - registers


def add_noise(sample: dict[str, Any]) -> tuple[int, float, float, float]:
    return sample['number'], random.random(), np.random.rand(), torch.rand(()).item()


@DATASETS.register_module()
class ThreeSamples(BaseDataset):
    """Numbers 0, 1 and 2, with noise of three generators."""

    METAINFO = {'classes': ('one', 'two')}  # noqa: RUF012 - as in mmengine

    def load_data_list(self) -> list[dict[str, Any]]:
        return [{'number': number} for number in range(3)]


def build(views: int = 4, **options: Any) -> Any:
    inner = {'type': 'ThreeSamples', 'pipeline': [add_noise]}
    return DATASETS.build({'type': 'FixedViews', 'views': views, 'dataset': inner, **options})


def test_versions_return_and_differ() -> None:
    data = build()
    assert len(data) == 12
    first = [data[i] for i in range(12)]
    assert [item[0] for item in first] == [0, 1, 2] * 4
    assert len({item[1:] for item in first}) == 12
    assert all(len({item[k] for item in first}) == 12 for k in (1, 2, 3)), 'each generator'
    random.seed(5)
    assert [data[i] for i in reversed(range(12))] == first[::-1]
    assert [build(views=2)[i] for i in range(6)] == first[:6]
    assert not {item[1:] for item in map(build(seed=1).__getitem__, range(12))} & {
        item[1:] for item in first
    }


@pytest.mark.slow
def test_workers_give_the_same_versions() -> None:
    data = build(views=2)
    loader = DataLoader(data, batch_size=None, num_workers=2, persistent_workers=True, shuffle=True)
    for _ in range(2):
        assert sorted(tuple(map(float, item)) for item in loader) == sorted(
            tuple(map(float, data[i])) for i in range(6)
        )


def test_it_is_a_data_set_of_its_kind() -> None:
    data = build(views=2)
    assert data.metainfo['classes'] == ('one', 'two')
    assert [data.get_data_info(i)['number'] for i in range(6)] == [0, 1, 2, 0, 1, 2]
