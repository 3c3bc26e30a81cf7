"""The command `vit-dense`: which commands there are, and that `tools/` are the same ones."""

import runpy
import sys
from pathlib import Path

import pytest

from vit_dense import cli
from vit_dense.version import __version__

ROOT = Path(__file__).resolve().parents[2]
TOOLS = {
    'train': 'train.py',
    'test': 'test.py',
    'convert': 'convert_checkpoint.py',
    'merge-lora': 'merge_lora.py',
}


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, 'argv', ['/somewhere/vit-dense', *arguments])
    try:
        return cli.main()
    except SystemExit as done:
        return int(done.code or 0)


def test_help_lists_every_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, '--help') == 0
    text = capsys.readouterr().out
    listed = [line.split()[0] for line in text.splitlines() if line.startswith('  ')]
    assert listed == list(cli.COMMANDS)
    assert {'train', 'test', 'predict', 'inspect', 'analyze', 'plot', 'doctor'} <= set(listed)
    assert call(monkeypatch) == 2
    assert capsys.readouterr().err == text
    assert call(monkeypatch, 'run') == 2
    assert 'vit-dense run SCRIPT ARGS...' in capsys.readouterr().err
    assert call(monkeypatch, '--version') == 0
    assert capsys.readouterr().out == f'vit-dense {__version__}\n'


def test_a_misspelt_command_names_the_nearest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, 'trian', 'x.py') == 2
    assert "no command 'trian'. Did you mean train?" in capsys.readouterr().err


@pytest.mark.parametrize('command', TOOLS)
def test_tools_are_the_commands(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv('COLUMNS', '2000')
    assert call(monkeypatch, command, '--help') == 0
    ours = capsys.readouterr().out
    assert ours.startswith(f'usage: vit-dense {command} ')
    script = ROOT / 'tools' / TOOLS[command]
    monkeypatch.setattr(sys, 'argv', [str(script), '--help'])
    with pytest.raises(SystemExit, match='0'):
        runpy.run_path(str(script), run_name='__main__')
    theirs = capsys.readouterr().out
    assert theirs.replace(script.name, f'vit-dense {command}', 1) == ours


@pytest.mark.parametrize(
    'arguments',
    [
        ('train', 'nowhere.py'),
        ('test', 'nowhere.py', 'x.pth'),
        ('convert', 'nowhere.pth', 'out.pth'),
        ('merge-lora', 'nowhere.py', 'x.pth', 'out.pth'),
        ('analyze', 'nowhere.py'),
        ('check', 'nowhere.py'),
        ('probe', 'nowhere.py', '--models', 'x'),
        ('plot', 'nowhere.py', '--out', 'x.png'),
        ('run', 'nowhere.py'),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(
    arguments: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv('LOCAL_RANK', '0')
    assert call(monkeypatch, *arguments) == 2
    text = capfd.readouterr().err
    assert 'Error: ' in text
    assert 'nowhere.p' in text
    assert 'Traceback' not in text
