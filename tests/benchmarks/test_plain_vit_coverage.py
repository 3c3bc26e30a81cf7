"""The test of all plain ViTs; test_backbone_coverage.py tests a sample."""

import sys
from pathlib import Path

import pytest
import timm

from vit_dense.backbones.families import FAMILIES

sys.path.insert(0, str(Path(__file__).parents[2] / 'benchmarks'))

import backbone_coverage as coverage

FIRST_SEVEN = (
    'vision_transformer',
    'deit',
    'eva',
    'beit',
    'vision_transformer_relpos',
    'vision_transformer_sam',
    'vision_transformer_hybrid',
)


def models_of(module: str) -> list[str]:
    return [name for name in timm.list_models() if coverage.module_of(name) == module]


def test_the_first_seven_modules_are_those_of_the_goal():
    assert set(FIRST_SEVEN) <= set(FAMILIES)
    assert sum(len(models_of(module)) for module in FIRST_SEVEN) >= 283


@pytest.mark.slow
@pytest.mark.parametrize('module', FAMILIES)
def test_all_work_with_every_adapter(module, monkeypatch):
    """Test with few channels, to save time; the page of the documentation has the full widths."""
    monkeypatch.setattr(coverage, 'WIDEST', 0)
    results = coverage.sweep(models_of(module), limit=0)
    assert {n: r.get('why') for n, r in results.items() if r['status'] != 'works'} == {}
