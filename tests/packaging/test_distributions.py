"""What wheels and source archives carry, and what they ask for."""

import shutil
import subprocess
import sys
from email import message_from_string
from pathlib import Path
from zipfile import ZipFile

import pytest
from installs import ROOT, clean_environment, pip
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def packaged_files(wheel: Path) -> set[str]:
    return {name for name in ZipFile(wheel).namelist() if name.startswith('vit_dense/')}


def test_wheel_holds_code_and_both_forms_of_every_config(wheel: Path) -> None:
    expected = {'vit_dense/.mim/model-index.yml'}
    for path in (ROOT / 'configs').rglob('*.py'):
        name = path.relative_to(ROOT / 'configs').as_posix()
        expected |= {f'vit_dense/.mim/configs/{name}'}
        expected |= {f'vit_dense/configs/{name.replace("-", "_")}'}
    held = packaged_files(wheel)
    derived = {name for name in held if name.startswith(('vit_dense/.mim', 'vit_dense/configs'))}
    assert derived == expected
    code = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / 'vit_dense').rglob('*.py')
        if not {'configs', '.mim'} & set(path.relative_to(ROOT).parts)
    }
    assert code == {name for name in held - derived if name.endswith('.py')}
    outside = {name.split('/')[0] for name in ZipFile(wheel).namelist()}
    assert len(outside) == 2, f'only the package and its metadata, not {outside}'
    assert not {name for name in held if 'street' in name or 'synthetic' in name}


def test_source_archive_builds_the_same_wheel(source: Path, wheel: Path, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, 'setup.py', '-q', 'sdist', '-d', tmp_path],
        cwd=source,
        env=clean_environment(),
        check=True,
        capture_output=True,
    )
    (archive,) = tmp_path.glob('*.tar.gz')
    shutil.unpack_archive(archive, tmp_path)
    unpacked = next(path for path in tmp_path.iterdir() if path.is_dir())
    pip('wheel', '-q', '--no-deps', '--no-build-isolation', '-w', tmp_path, unpacked)
    (second,) = tmp_path.glob('*.whl')
    assert packaged_files(second) == packaged_files(wheel)


def test_the_console_script(wheel: Path) -> None:
    archive = ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith('entry_points.txt'))
    text = archive.read(name).decode().split()
    assert text == ['[console_scripts]', 'vit-dense', '=', 'vit_dense.cli:main']


def requirements(wheel: Path, extra: str) -> dict[str, Requirement]:
    archive = ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith('.dist-info/METADATA'))
    metadata = message_from_string(archive.read(name).decode())
    every = [Requirement(line) for line in metadata.get_all('Requires-Dist', [])]
    return {
        canonicalize_name(one.name): one
        for one in every
        if one.marker is None or one.marker.evaluate({'extra': extra})
    }


def test_extras(wheel: Path) -> None:
    core = set(requirements(wheel, ''))
    assert {'torch', 'torchvision', 'timm', 'mmengine', 'numpy', 'opencv-python'} <= core
    assert '82' not in requirements(wheel, '')['setuptools'].specifier
    for extra, tasks in {'seg': {'mmsegmentation'}, 'det': {'mmdet'}}.items():
        assert tasks | {'mmcv-lite'} <= set(requirements(wheel, extra))
    assert {'mmsegmentation', 'mmdet', 'mmcv-lite'} <= set(requirements(wheel, 'all'))
    assert {'mmsegmentation', 'mmdet'}.isdisjoint(core)
    assert 'mmdet' not in requirements(wheel, 'seg')
    assert 'mmsegmentation' not in requirements(wheel, 'det')
    assert 'peft' in requirements(wheel, 'peft')
    assert 'peft' not in requirements(wheel, 'all'), 'it brings much with it'


@pytest.mark.parametrize('extra', ['seg', 'det', 'all'])
def test_compiled_mmcv_is_left_alone(wheel: Path, extra: str) -> None:
    """Both distributions own the folder `mmcv/`: the lite one would overwrite the other."""
    plain, compiled = (set(requirements(wheel, name)) for name in (extra, f'{extra}-mmcv'))
    assert plain - compiled == {'mmcv-lite'}
    assert not {name for name in compiled if name.startswith('mmcv')}


def test_tested_versions_satisfy_what_is_asked_for(wheel: Path) -> None:
    lines = (ROOT / 'requirements' / 'constraints.txt').read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith('#')]
    versions = {canonicalize_name(pin.name): pin for pin in pins}
    assert len(versions) == len(pins), 'a name twice'
    for extra in ('', 'seg', 'det', 'all', 'peft', 'docs', 'dev'):
        for name, asked in requirements(wheel, extra).items():
            assert name in versions, f'{name} is asked for but has no tested version'
            for pin in versions[name].specifier:
                assert pin.operator != '==' or asked.specifier.contains(pin.version), asked
