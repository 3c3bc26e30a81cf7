"""NaN and infinity are found wherever they are, and infinity is accepted in buffers only."""

import pytest
import torch

from vit_dense.compat.finite_values import list_non_finite

NAN, INF = float('nan'), float('inf')


@pytest.mark.parametrize(
    'dtype',
    [
        torch.float32,
        torch.float64,
        torch.float16,
        torch.bfloat16,
        torch.float8_e5m2,
        torch.complex64,
    ],
)
@pytest.mark.parametrize('value', [NAN, INF, -INF])
def test_one_value_among_many(dtype: torch.dtype, value: float) -> None:
    good, bad = torch.ones(50, 41), torch.ones(50, 41)
    bad[31, 7] = value
    content = {'good': good.to(dtype), 'nested': {3: [good.to(dtype), bad.to(dtype)]}}
    assert list_non_finite(content) == ['nested.3.1']
    mask = {'mask': bad.to(dtype)}
    assert list_non_finite(mask, buffers=['mask']) == (['mask'] if value != value else [])


def test_what_has_no_such_values() -> None:
    content = {'empty': torch.empty(0), 'counter': torch.tensor(7), 'lr': NAN, 'none': None}
    assert list_non_finite({**content, 'sparse': torch.eye(3).to_sparse()}) == []


def test_a_stated_size_without_content_costs_nothing() -> None:
    huge = {'a': torch.zeros(1).expand(10**12), 'b': torch.tensor([NAN]).expand(10**12)}
    assert list_non_finite(huge) == ['b']
