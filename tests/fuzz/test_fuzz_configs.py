"""Mistakes in configs and on command lines end in one message."""

import copy
import math
import random
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import leaves
import pytest
import tiny_training
import torch
from fuzz_cases import cases, numbers, refusal
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope

from vit_dense.apis import load_config
from vit_dense.apis.config import build_runner
from vit_dense.apis.config_checks import check_head_inputs
from vit_dense.cli import COMMANDS, main

pytestmark = pytest.mark.slow

WRONG = (None, -1, 0, 1.5, 'x', '', [], {}, True, [None], math.nan, math.inf, ('a', 'b'))
# Errors of other libraries that say clearly what is wrong, with the reason why they stay.
ACCEPTED = (
    # mmengine and torch name the value, or what it must be
    r'\w+: .*(should|must) be (a|an|one of|int|str)\b',
    r'RuntimeError: Trying to create tensor with negative dimension -\d',
    r'\w+: .* is not a callable object|RuntimeError: Failed to get',
    r'KeyError: .the cfg dict must contain the key "type"',
    # mmseg gives the mean and std of images to torch as they are
    r'ValueError: too many dimensions .str|RuntimeError: Could not infer dtype',
    r'TypeError: (new\(\): invalid data type|must be real number)',
    # mmengine adds the hook that met the value
    r'TypeError: .* in <mmengine\.hooks',
)
# mmengine, mmseg and mmdet check few types of their arguments; the stack shows where.
UNCHECKED = (
    r"(Type|Attribute)Error: .*('NoneType'|'str'|'int'|'float'|'bool'|'list'|'tuple'|'dict')",
    r'NotImplementedError: `optim_context`|IndexError: tuple index out of range',
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Returns the paths of all values in nested dicts and lists."""
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [one for k, v in items for one in ((*path, k), *places(v, (*path, k)))]


def mutate(config: dict[str, Any], draw: random.Random) -> str:
    """Makes one mistake in a config, in place; returns what it is."""
    *above, last = path = draw.choice(places(config))
    owner: Any = config
    for key in above:
        owner = owner[key]
    old = owner[last]
    kind = draw.choice(('wrong', 'wrong', 'drop', 'misspell', 'swap', 'negative', 'duplicate'))
    if kind == 'drop':
        del owner[last]
    elif kind == 'misspell' and isinstance(last, str):
        owner[last[:-2] + last[-1] if len(last) > 2 else last + '_'] = owner.pop(last)
    elif kind == 'misspell' and isinstance(old, str) and old:
        owner[last] = old[:-1]
    elif kind == 'swap':
        owner[last] = old[0] if isinstance(old, list | tuple) and old else [old]
    elif kind == 'negative' and isinstance(old, int | float) and not isinstance(old, bool):
        owner[last] = -old
    elif kind == 'duplicate' and isinstance(owner, list):
        owner.append(copy.deepcopy(old))
    else:
        owner[last] = draw.choice(WRONG)
    new = owner.get(last, '(none)') if isinstance(owner, dict) else owner
    return f'{".".join(map(str, path))}: {str(old)[:60]} -> {str(new)[:60]} ({kind})'


def draw_leaf(case: int) -> Path:
    """Returns a leaf; most cases keep theirs when leaves are added."""
    known = (path for path in leaves.LEAVES if 'lora' not in path.name)
    return min(known, key=lambda path: numbers(leaves.name_of(path), case).random())


def build(model: Any) -> None:
    check_head_inputs(Config({'model': model}))
    MODELS.build(ConfigDict(model) if isinstance(model, dict) else model)


@cases(60)
def test_random_models_of_leaves(case: int) -> None:
    draw = numbers('leaves', case)
    path = draw_leaf(case)
    config = Config.fromfile(path)
    model = config.model.to_dict()
    what = f'{path.name} {mutate(model, draw)}'
    with DefaultScope.overwrite_default_scope(config.default_scope), torch.device('meta'):
        refusal(lambda: build(model), what, accepted=ACCEPTED + UNCHECKED)


@cases(30)
def test_random_runs(case: int, tmp_path: Path) -> None:
    draw = numbers('runs', case)
    config = tiny_training.tiny_config(tmp_path / str(case) / 'work')
    config['default_hooks'] = {
        'checkpoint': {'type': 'CheckpointHook', 'interval': 2, 'max_keep_ckpts': 1},
        'logger': {'type': 'LoggerHook', 'interval': 1},
        'check': {'type': 'CheckpointCheckHook'},
    }
    config['param_scheduler'] = [
        {'type': 'LinearLR', 'start_factor': 0.1, 'by_epoch': False, 'end': 2}
    ]
    config['randomness'] = {'seed': 0}
    what = mutate(config, draw)
    refusal(lambda: build_runner(Config(config)).train(), what, accepted=ACCEPTED + UNCHECKED)


@cases(30)
def test_random_options_of_configs(case: int) -> None:
    draw = numbers('options', case)
    path = draw_leaf(case)
    config = Config.fromfile(path).to_dict()
    key = [str(part) for part in draw.choice(places(config))]
    place = draw.randrange(len(key))
    key[place] = draw.choice((key[place], key[place][:-1], '99', '-1', 'x', ''))
    options = {'.'.join(key): draw.choice(WRONG)}
    refusal(
        lambda: load_config(str(path), cfg_options=options),
        f'{path.name} {options}',
        accepted=ACCEPTED,
    )


FILES = {
    'empty.py': '',
    'text.txt': 'x',
    'broken.py': 'a = (',
    'a.py': 'model = dict(type="X")',
    'no.pth': 'x',
    'c.json': '{',
    'p.png': 'x',
    'raises.py': '1 / 0',
    'base.py': '_base_ = "gone.py"',
    'v.onnx': 'x',
}
NAMES = (*FILES, 'gone.py', 'gone.pth', 'vit_dense::gone.py', 'https://', '', '.', '*.png', '-1')
VALUES = (*NAMES, '0', '1', 'nan', '1' * 20)


@cases(60)
def test_random_command_lines(
    case: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    draw = numbers('commands', case)
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(text)
    command = draw.choice([one for one in COMMANDS if one not in ('run', 'doctor', 'serve')])
    module = import_module(f'vit_dense.cli.{COMMANDS[command][0]}')
    words = [draw.choice(NAMES) for _ in range(draw.randint(0, 3))]
    if hasattr(module, 'build_parser'):
        flags = [a for a in module.build_parser()._actions if a.option_strings and a.dest != 'help']
        for action in draw.sample(flags, min(len(flags), draw.randint(0, 3))):
            if '--debug' not in action.option_strings:
                value = 'a=1' if '--cfg-options' in action.option_strings else draw.choice(VALUES)
                words += [action.option_strings[0], value][: 1 + (action.nargs != 0)]
    monkeypatch.setattr(sys, 'argv', ['vit-dense', command, *words])
    codes: list[Any] = []

    def run() -> None:
        try:
            codes.append(main())
        except SystemExit as stopped:
            codes.append(stopped.code)

    what = f'vit-dense {command} {words}'
    assert refusal(run, what) is None, what
    output = capfd.readouterr()
    assert codes != [0], f'{what}: {output.out}'
    assert 'rror' in output.err, f'{what}: {output.err}'
    assert 'Traceback' not in output.err, f'{what}: {output.err}'
