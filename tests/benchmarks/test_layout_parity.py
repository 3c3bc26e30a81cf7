"""The comparison with files of other authors, for the projects that are always installed."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.parity.layouts import __main__ as layouts


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', ['layouts', *map(str, arguments)])
    return layouts.main()


@pytest.mark.parametrize(('project', 'files'), [('timm', 6), ('mmseg', 5), ('transformers', 9)])
def test_files_of_installed_projects(project, files, tmp_path, monkeypatch, capsys):
    pytest.importorskip(project)
    assert call(monkeypatch, 'write', project, '--out', tmp_path, '--grid', 4) == 0
    capsys.readouterr()
    assert call(monkeypatch, 'compare', tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if line.startswith(f'| {project}')]
    assert len(rows) == files
    for row in rows:
        worst = [float(cell) for cell in row.split('|')[4:6] if cell.strip()]
        assert worst
        assert max(worst) < 1e-5
    assert any(line.startswith('Largest difference') for line in lines)


def test_a_difference_is_told(tmp_path, monkeypatch, capsys):
    call(monkeypatch, 'write', 'timm', '--out', tmp_path, '--grid', 4)
    real = layouts.image
    monkeypatch.setattr(layouts, 'image', lambda *size: 1.01 * real(*size))
    assert call(monkeypatch, 'compare', tmp_path) == 1


def test_what_is_recorded(tmp_path, monkeypatch, capsys):
    call(monkeypatch, 'write', 'timm', '--out', tmp_path, '--grid', 4)
    target = tmp_path / 'recorded.json'
    call(monkeypatch, 'record', tmp_path, target)
    rows = json.loads(target.read_text())
    here = Path(__file__).parents[1] / 'weights' / 'recorded_layouts.json'
    (name,) = rows
    assert rows[name]['names'] == json.loads(here.read_text())[name]['names']
    assert len(rows[name]['outputs']['64x64']['values']) == 12


def test_a_folder_without_files(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match='`write`'):
        call(monkeypatch, 'compare', tmp_path)
