"""Help and wrong options of every command are answered without PyTorch and OpenMMLab."""

import json
import subprocess
import sys
from types import ModuleType

import pytest
from processes import ROOT

from vit_dense import cli

HEAVY = {'torch', 'mmengine', 'mmcv', 'timm', 'numpy', 'cv2'}
# Starts every command in every way, each time with vit_dense imported anew, and prints for each
# call the exit code and the heavy modules that it has imported.
CALLS = """
import contextlib, io, json, runpy, sys
from pathlib import Path

commands, tools, heavy = json.loads(sys.argv[1])
sys.path.insert(0, str(Path(tools[0]).parents[1]))

def console():
    from vit_dense.cli import main
    sys.exit(main())

def module():
    sys.orig_argv = ['python', '-X', 'dev', '-m', 'vit_dense', *sys.argv[1:]]
    sys.argv[0] = '-m'
    runpy.run_module('vit_dense', run_name='__main__', alter_sys=True)

def call(start, *argv):
    for name in [one for one in sys.modules if one.partition('.')[0] == 'vit_dense']:
        del sys.modules[name]
    sys.argv, sys.orig_argv = list(argv), ['python', *argv]
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        try:
            start()
            code = None
        except SystemExit as done:
            code = done.code
    return code, sorted(set(heavy) & set(sys.modules)), shown.getvalue()

found = {}
for option in ('--help', '--wrong-option'):
    for name in commands:
        found[f'vit-dense {name} {option}'] = call(console, '/bin/vit-dense', name, option)
        found[f'-m vit_dense {name} {option}'] = call(module, 'vit_dense', name, option)
    for tool in tools:
        found[f'{tool} {option}'] = call(
            lambda: runpy.run_path(tool, run_name='__main__'), tool, option
        )
print(json.dumps(found))
"""


def test_help_and_wrong_options_import_nothing_heavy() -> None:
    tools = sorted(map(str, (ROOT / 'tools').glob('*.py')))
    given = json.dumps([list(cli.COMMANDS), tools, sorted(HEAVY)])
    output = subprocess.run(
        [sys.executable, '-c', CALLS, given], text=True, capture_output=True, check=True
    ).stdout
    found = json.loads(output)
    assert len(found) == 2 * (2 * len(cli.COMMANDS) + len(tools)) > 50
    for call, (code, heavy, text) in found.items():
        assert not heavy, call
        assert code == (2 if call.endswith('--wrong-option') else 0), (call, text)
        assert 'usage: ' in text or 'Error: ' in text, call


@pytest.mark.parametrize(
    ('argv', 'original', 'own'),
    [
        (['/bin/vit-dense', 'train'], ['python', '/bin/vit-dense', 'train'], True),
        (['C:/vit-dense.exe', 'train'], ['C:/vit-dense.exe', 'train'], True),
        (['-m', 'train'], ['python', '-u', '-m', 'vit_dense', 'train'], True),
        (['-m', 'x.py'], ['python', '-m', 'mine.train', '-m', 'vit_dense'], False),
        (['mine/train.py', '-m', 'vit_dense'], ['python', 'mine/train.py', '-m'], False),
        (['tools/train.py'], ['python', 'tools/train.py'], False),  # somebody else's tool
        (['-c'], ['python', '-c', 'import vit_dense'], False),
        ([''], ['python'], False),
        # A process that a command spawned: multiprocessing copies `sys.argv`.
        (['vit-dense train', 'x.py'], ['python', '-c', 'from multiprocessing'], False),
    ],
)
def test_only_our_own_commands_postpone_registration(
    argv: list[str], original: list[str], own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, '__main__', ModuleType('__main__'))
    monkeypatch.setattr(sys, 'argv', argv)
    monkeypatch.setattr(sys, 'orig_argv', original)
    assert cli.is_own_command() is own
