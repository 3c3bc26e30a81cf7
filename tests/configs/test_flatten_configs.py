"""The build's own merging of `_base_` files, held to mmengine's."""

from pathlib import Path
from textwrap import dedent

import pytest
from mmengine.config import Config

from build_support.flatten_configs import (
    RUNNER_KEYS,
    generate,
    load_config,
    module_path,
    render,
)
from vit_dense.compat.config_variables import runner_keys

CONFIGS = Path(__file__).parents[2] / 'configs'
ALL = sorted(CONFIGS.rglob('*.py'))


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f'{name}.py').write_text(dedent(text))
    return folder / f'{name}.py'


@pytest.mark.parametrize('path', ALL, ids=lambda path: path.relative_to(CONFIGS).as_posix())
def test_equals_mmengine_on_every_config(path: Path) -> None:
    ours = load_config(path)
    theirs = Config.fromfile(path, import_custom_modules=False).to_dict()
    # By text, too: 1 == 1.0 == True, and a tuple is not a list.
    assert ours == theirs
    assert repr(ours) == repr(theirs)


@pytest.mark.parametrize('every', [8, pytest.param(1, marks=pytest.mark.slow)])
def test_both_derived_forms_equal_the_source(tmp_path: Path, every: int) -> None:
    generate(CONFIGS, tmp_path)
    assert (tmp_path / '.mim/model-index.yml').is_file()
    copies = sorted((tmp_path / '.mim/configs').rglob('*.py'))
    flat = sorted((tmp_path / 'configs').rglob('*.py'))
    assert len(copies) == len(flat) == len(ALL)
    for source in ALL[::every]:
        relative = source.relative_to(CONFIGS)
        expected = Config.fromfile(source).to_dict()
        for derived in (tmp_path / '.mim/configs' / relative, flat_path(tmp_path, relative)):
            assert repr(Config.fromfile(derived).to_dict()) == repr(expected)
        assert repr(read_lazily(tmp_path, flat_path(tmp_path, relative))) == repr(expected)


def flat_path(package: Path, relative: Path) -> Path:
    path = package / 'configs' / module_path(relative)
    assert path.stem.isidentifier(), 'read_base imports it by name'
    return path


def read_lazily(folder: Path, path: Path) -> dict:
    """What a `read_base` project gets from the file."""
    module = '.'.join(path.relative_to(folder).with_suffix('').parts)
    project = folder / 'project.py'
    project.write_text(
        f'from mmengine.config import read_base\nwith read_base():\n    from .{module} import *\n'
    )
    return Config.fromfile(project).to_dict()


def test_the_same_keys_are_no_variables() -> None:
    assert runner_keys() == RUNNER_KEYS


def test_a_second_run_removes_what_is_gone(tmp_path: Path) -> None:
    source = tmp_path / 'source'
    source.mkdir()
    write(source, old='a = 1', new='a = 2')
    generate(source, tmp_path / 'package')
    (source / 'old.py').unlink()
    generate(source, tmp_path / 'package')
    assert [path.name for path in (tmp_path / 'package/configs').iterdir()] == ['new.py']


def test_delete_replaces_and_other_dicts_merge(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        base='a = dict(x=1, y=dict(z=2), l=[dict(q=1)])\nb = dict(x=1)\nsize = (3, 4)',
        leaf="""
            _base_ = 'base.py'
            import math
            a = dict(y=dict(w=_base_.a.l[0].q), l=[2])
            b = dict(_delete_=True, k=math.floor(2.5))
            area = _base_.size[0] * _base_['size'][1]
            def unused(): pass
        """,
    )
    expected = {
        'a': {'x': 1, 'y': {'z': 2, 'w': 1}, 'l': [2]},
        'b': {'k': 2},
        'size': (3, 4),
        'area': 12,
    }
    assert load_config(path) == expected == Config.fromfile(path).to_dict()


def test_mistakes_are_told(tmp_path: Path) -> None:
    path = write(tmp_path, one='a = 1', two='a = 2', leaf="_base_ = ['one.py', 'two.py']")
    with pytest.raises(ValueError, match=r"leaf\.py: \['a'\] come from two bases"):
        load_config(path)
    path = write(tmp_path, one='a = 1', leaf="_base_ = 'one.py'\na = dict(b=1)")
    with pytest.raises(ValueError, match='a is a dict here and int in the base'):
        load_config(path)
    path = write(tmp_path, leaf="_base_ = 'one.py'\nb = _base_.missing")
    with pytest.raises(AttributeError, match="no base config defines 'missing'"):
        load_config(path)
    with pytest.raises(ValueError, match=r'configs/x\.py: a = .* cannot be written'):
        render({'a': object()}, Path('x.py'))
    (tmp_path / 'clash').mkdir()
    (tmp_path / 'clash/a-b.py').write_text('')
    (tmp_path / 'clash/a_b.py').write_text('')
    with pytest.raises(ValueError, match='rename one of them'):
        generate(tmp_path / 'clash', tmp_path / 'package')
