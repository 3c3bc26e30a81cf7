"""The warning where bfloat16 is slow."""

from pathlib import Path

import pytest

from vit_dense import cpu
from vit_dense.cpu import has_bfloat16_units
from vit_dense.engine import half_precision
from vit_dense.engine.half_precision import warn_slow_bfloat16


@pytest.mark.parametrize(
    ('line', 'expected'),
    [
        ('flags\t\t: fpu avx2 avx512f avx512_bf16', True),
        ('flags\t\t: fpu amx_bf16 amx_tile', True),
        ('flags\t\t: fpu avx2 avx512f', False),
        ('Features\t: fp asimd bf16 i8mm', True),
        ('Features\t: fp asimd', False),
        ('model name : something', None),
    ],
)
def test_instructions(
    line: str, expected: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu.platform, 'system', lambda: 'Linux')
    path = tmp_path / 'cpuinfo'
    path.write_text(f'processor : 0\n{line}\n')
    assert has_bfloat16_units(path) is expected
    assert has_bfloat16_units(tmp_path / 'nowhere') is None
    monkeypatch.setattr(cpu.platform, 'system', lambda: 'Darwin')
    assert has_bfloat16_units(path) is None


@pytest.mark.parametrize('units', [True, False, None])
def test_the_warning(units: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(half_precision, 'has_bfloat16_units', lambda: units)
    monkeypatch.setattr(half_precision, 'print_log', lambda text, **_: said.append(text))
    assert warn_slow_bfloat16('cpu') == (units is False)
    assert not warn_slow_bfloat16('cuda')
    assert len(said) == (units is False)
    assert all('14 times slower' in text for text in said)
