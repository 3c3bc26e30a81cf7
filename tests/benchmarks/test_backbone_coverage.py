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
}
EXPECTED = {
    'shvit_s1': 'strides',
    'mixer_s32_224': 'hence one image size',
    'botnet26t_256': 'any size',
}


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
    assert '1 of the 1 tested work; timm registers 3' in text
    assert '0 of the 1 tested work' in text
    assert '| vision_transformer | 1 | 1 |' in text
    assert '- 1 refused (shvit 1): it has maps of strides [16, 32, 64]; Timm' in text
    assert '1/1 test_vit' in capsys.readouterr().out


def test_table_groups_reasons_and_names_what_was_narrowed():
    ended = "'{}' cannot take images of any size: one of 96 px ended in Error: {} is bad. Choose a"
    refused = {'kind': 'pyramid', 'status': 'refused'}
    works = {'kind': 'vit', 'status': 'works', 'module': 'eva'}
    results = {
        'a': {**refused, 'module': 'gcvit', 'why': ended.format('a', 7)},
        'b': {**refused, 'module': 'gcvit', 'why': ended.format('b', 14)},
        'c': {**refused, 'module': 'coat', 'why': ended.format('c', 14)},
        'd': {**refused, 'module': 'pit', 'why': "'d' has strides [7]: choose another"},
        'e': {**refused, 'module': 'tnt', 'why': "'e' has strides [9]: choose another"},
        'f': {'kind': 'pyramid', 'status': 'works', 'module': 'coat', 'numbers': True},
        'vit': {**works, 'reduced': {'depth': 4}},
        'wide': {**works, 'reduced': {'depth': 4, 'embed_dim': 48, 'num_kv_heads': 1}},
        'whole': {**works, 'reduced': {}},
    }
    lines = coverage.table(results).splitlines()
    reason = 'it cannot take images of any size: one of 96 px ended in Error: 7 is bad'
    assert f'- 3 refused (gcvit 2, coat 1): {reason}' in lines
    assert '- 1 refused (pit 1): it has strides [7]' in lines
    assert '- 1 refused (tnt 1): it has strides [9]' in lines
    assert '| coat | 2 | 1 | 1 | 1 |  |' in lines
    assert '| eva | 3 | 3 | 2 |  |  |  |' in lines
    assert 'Tested at depth 4, except whole.' in lines
    assert 'Tested with 48 channels, to fit in memory: wide.' in lines


def test_wide_vits_are_narrowed_and_others_are_not():
    assert coverage.shapes_of('vit_7b_patch16_dinov3')[0] == {**coverage.NARROW[0], 'depth': 4}
    assert coverage.shapes_of('vit_tiny_patch16_224')[0] == {'depth': 4}
    assert coverage.shapes_of('convit_tiny')[0] == {'depth': 4, 'local_up_to_layer': 2}


def test_initial_values_are_spared_for_a_moment_only():
    with coverage.skip_init():
        assert not torch.zeros(100).normal_().any()
    assert torch.zeros(100).normal_().any()


@pytest.mark.slow
@pytest.mark.parametrize('module', sorted(set(MODULES) - set(FAMILIES)))
def test_every_other_model_works_or_is_refused(module):
    results = coverage.sweep(MODULES[module], limit=4e6)
    broken = {n: r['why'] for n, r in results.items() if r['status'] not in ('works', 'refused')}
    assert broken == {}
    if module in ALL_WORK:
        assert {result['status'] for result in results.values()} == {'works'}
