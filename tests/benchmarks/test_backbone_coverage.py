"""The sweep over timm's models: a sample by default, all of them as slow tests."""

import sys
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from vit_dense.backbones.families import FAMILIES

sys.path.insert(0, str(Path(__file__).parents[2] / 'benchmarks'))

import backbone_coverage as coverage

# The modules of which nearly all have to work, and how many architectures they are at least.
# Modules that users come for: refusing one of their models would be a loss, not an answer.
ALL_WORK = {
    'swin_transformer',
    'swin_transformer_v2',
    'convnext',
    'mobilevit',
    'pvt_v2',
    'hiera',
    'edgenext',
    'fastvit',
    'efficientvit_mit',
    'naflexvit',
    'cait',
    'xcit',
}
CORE = ('vision_transformer', 'deit', 'eva', 'beit', 'vision_transformer_relpos',
        'vision_transformer_sam', 'vision_transformer_hybrid')  # fmt: skip
EXPECTED = {'shvit_s1': 'strides', 'convit_tiny': 'strides', 'botnet26t_256': 'any size'}


def names_by_module() -> dict[str, list[str]]:
    modules: dict[str, list[str]] = {}
    for name in timm.list_models():
        modules.setdefault(coverage.module_of(name), []).append(name)
    return modules


MODULES = names_by_module()


@pytest.mark.parametrize('name', coverage.SAMPLE)
def test_sample(name):
    (result,) = coverage.sweep([name], limit=12e6).values()
    if name in EXPECTED:
        assert result['status'] == 'refused'
        assert EXPECTED[name] in result['why']
    else:
        assert result['status'] == 'works', result
        assert set(result.get('adapters', {}).values()) <= {'works'}


def test_sample_has_every_family():
    assert {coverage.module_of(name) for name in coverage.SAMPLE} >= set(FAMILIES)


def test_checks_can_fail(monkeypatch):
    maps = [torch.zeros(1, 8, n, n) for n in (16, 8, 4, 2)]
    coverage.check_maps(maps, [8] * 4, (64, 64))
    for spoiled in (maps[:3], [maps[0] / 0, *maps[1:]], [maps[1], *maps[1:]]):
        with pytest.raises((coverage.CheckError, ValueError)):
            coverage.check_maps(spoiled, [8] * 4, (64, 64))
    model = nn.ModuleDict({'used': nn.Conv2d(8, 8, 1), 'idle': nn.Conv2d(8, 8, 1)})
    with pytest.raises(coverage.CheckError, match=r'idle\.weight has no gradient'):
        coverage.check_gradients(model, [model['used'](maps[0])])
    monkeypatch.setattr(torch, 'equal', lambda *_: False)
    result = coverage.try_vit('test_vit')
    assert result['status'] == 'fails'
    assert "is not timm's" in result['why']


def test_table_counts_and_gives_reasons(tmp_path, capsys):
    written = tmp_path / 'coverage.md'
    options = ['--models', 'test_vit', 'shvit_s1', '--results', str(tmp_path / 'r.json')]
    coverage.main([*options, '--part', '1/2'])
    coverage.main([*options, '--part', '2/2', '--write', str(written)])
    text = written.read_text()
    assert '1 of the 1 tried work; timm registers 3' in text
    assert '0 of the 1 tried work' in text
    assert '| vision_transformer | 1 | 1 |' in text
    assert '- shvit (1) refused: it has maps of strides [16, 32, 64]' in text
    assert '1/1 test_vit' in capsys.readouterr().out


@pytest.mark.slow
def test_nearly_all_plain_vits_work_with_every_adapter():
    names = [name for module in CORE for name in MODULES[module]]
    results = coverage.sweep(names, limit=0)
    assert len(names) >= 283
    works = [name for name, result in results.items() if result['status'] == 'works']
    assert len(works) >= 0.95 * len(names)
    assert {r['status'] for r in results.values()} <= {'works', 'refused'}


@pytest.mark.slow
@pytest.mark.parametrize('module', sorted(set(MODULES) - set(CORE)))
def test_everything_else_works_or_is_refused(module):
    results = coverage.sweep(MODULES[module], limit=12e6)
    broken = {n: r['why'] for n, r in results.items() if r['status'] not in ('works', 'refused')}
    assert broken == {}
    if module in ALL_WORK:
        assert {result['status'] for result in results.values()} == {'works'}
