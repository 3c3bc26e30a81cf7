"""`vit-dense doctor`: what it reports of sound, broken and mixed environments."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from processes import ROOT

from vit_dense.cli import doctor

REQUIREMENTS = """\
Metadata-Version: 2.1
Name: vit_dense
Version: 9
Requires-Dist: torch>=2
Requires-Dist: timm>=1.0.31,<1.1
Requires-Dist: mmcv-lite>=2.1.0,<2.2; extra == 'seg'
Requires-Dist: setuptools<82
"""


def distribution(folder: Path, name: str, version: str, text: str = '') -> None:
    info = folder / f'{name.replace("-", "_")}-{version}.dist-info'
    info.mkdir(parents=True)
    (info / 'METADATA').write_text(
        text or f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n'
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder first on the path, where vit_dense's requirements lie."""
    distribution(tmp_path, 'vit_dense', '9', REQUIREMENTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, 'argv', ['vit-dense doctor'])
    return tmp_path


def alone(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let no distribution be found but those in `folder`; what is imported stays."""
    found = list(doctor.metadata.distributions(path=[str(folder)]))
    monkeypatch.setattr(doctor.metadata, 'distributions', lambda: found)


def test_a_sound_environment(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = doctor.main()
    text = capsys.readouterr().out
    assert code == 0, text
    rows = {line[:12].strip(): line[13:] for line in text.splitlines()}
    import mmseg
    import torch

    assert rows['torch'].startswith(torch.__version__.partition('+')[0])
    assert rows['mmseg'].startswith(mmseg.__version__)
    assert rows['mmcv ops'] in ('supplied by vit_dense, without compiler',) or 'compiled' in text
    assert {'python', 'timm', 'mmengine', 'mmcv', 'mmdet', 'device', 'vit_dense'} <= set(rows)
    assert text.endswith('\nno problems found\n')


def test_colliding_distributions(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ('mmcv', 'mmcv-lite', 'onedl-mmengine', 'mmengine'):
        distribution(folder, name, '2.1.0')
    alone(monkeypatch, folder)
    assert doctor.main() == 1
    text = capsys.readouterr().out
    assert 'pip uninstall -y mmcv mmcv-lite && pip install "mmcv-lite<2.2,>=2.1.0"' in text
    assert 'pip uninstall -y mmengine onedl-mmengine && pip install mmengine' in text
    assert '2 problems found' in text


def test_versions_outside_the_range(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    distribution(folder, 'timm', '1.1.0')
    distribution(folder, 'mmcv', '2.2.0')
    distribution(folder, 'torch', '2.11.0+cpu')
    distribution(folder, 'onedl-mmsegmentation', '7.0')
    alone(monkeypatch, folder)
    assert doctor.main() == 1
    text = capsys.readouterr().out
    assert 'timm 1.1.0 is outside the tested versions <1.1,>=1.0.31' in text
    assert 'pip install "timm<1.1,>=1.0.31"' in text
    assert 'pip install "mmcv<2.2,>=2.1.0"' in text, 'the compiled one is kept'
    assert '2 problems found' in text


def test_distributions_that_share_a_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ('opencv-python', 'opencv-python-headless', 'onnxruntime', 'onnxruntime-gpu'):
        distribution(folder, name, '1.0')
    alone(monkeypatch, folder)
    assert doctor.main() == 1
    text = capsys.readouterr().out
    opencv = 'pip uninstall -y opencv-python opencv-python-headless && pip install opencv-python'
    assert f'\n  {opencv}\n' in text
    assert 'pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu' in text
    assert '2 problems found' in text


@pytest.mark.parametrize(
    ('requirement', 'problems'),
    [('torch==2.6.0', 1), ('torch (==2.6.0)', 1), ('torch==2.11.0', 0), ('torch', 0)],
)
def test_torchvision_of_another_torch(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    requirement: str,
    problems: int,
) -> None:
    distribution(folder, 'torch', '2.11.0+cu130')
    text = (
        f'Metadata-Version: 2.1\nName: torchvision\nVersion: 0.21.0\nRequires-Dist: {requirement}\n'
    )
    distribution(folder, 'torchvision', '0.21.0', text)
    alone(monkeypatch, folder)
    assert doctor.main() == problems
    shown = capsys.readouterr().out
    command = '\n  pip install --upgrade "torch==2.11.0" torchvision\n'
    assert (command in shown) == bool(problems)
    message = 'torchvision 0.21.0 is compiled for torch 2.6.0, not for torch 2.11.0+cu130.'
    assert (message in shown) == bool(problems)


def test_absent_extras_are_no_problem(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    distribution(folder, 'onnxruntime-gpu', '1.32')
    alone(monkeypatch, folder)
    assert doctor.main() == 0
    rows = {line[:12].strip(): line[13:] for line in capsys.readouterr().out.splitlines()}
    assert rows['onnxruntime'] == '1.32 (onnxruntime-gpu)'
    assert rows['rasterio'] == 'not installed, optional: pip install "vit_dense[geo]"'
    assert {'openvino', 'sahi', 'gradio'} <= set(rows)


@pytest.mark.parametrize(
    ('flags', 'expected'),
    [
        ('flags : avx2 avx512_bf16 amx_tile', 'yes'),
        ('Features : asimd bf16 i8mm', 'yes'),
        ('flags : avx2 avx512f', 'no units: bfloat16 is slower than float32'),
        (None, 'unknown'),
    ],
)
def test_cpu_bf16(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str | None, expected: str
) -> None:
    file = tmp_path / 'cpuinfo'
    if flags is not None:
        file.write_text(f'{flags}\n')
    monkeypatch.setattr(doctor, 'CPU_INFO', file)
    assert doctor.cpu_bf16() == expected


def run_doctor(folder: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(map(str, (folder, ROOT)))
    return subprocess.run(
        [sys.executable, '-m', 'vit_dense', 'doctor'],
        cwd=folder,
        env={**os.environ, 'PYTHONPATH': path, 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ('name', 'code', 'message', 'command'),
    [
        (
            'torch',
            'raise OSError("libcudart.so.12: cannot open shared object file")',
            'torch cannot be imported: libcudart.so.12',
            'pip install --force-reinstall "torch>=2" torchvision',
        ),
        (
            'torch',
            'raise ModuleNotFoundError("No module named \'torch\'", name="torch")',
            "torch cannot be imported: No module named 'torch'",
            'pip install "torch>=2"',
        ),
        (
            'mmdet',
            'import pkg_resources_gone as pkg_resources',
            "mmdet cannot be imported: No module named 'pkg_resources_gone'",
            'pip install pkg_resources_gone',
        ),
    ],
    ids=['torch-broken', 'torch-absent', 'mmdet-incomplete'],
)
def test_what_cannot_be_imported(
    folder: Path, name: str, code: str, message: str, command: str
) -> None:
    (folder / name).mkdir()
    (folder / name / '__init__.py').write_text(code)
    done = run_doctor(folder)
    assert done.returncode == 1, done.stderr
    assert message in done.stdout
    assert f'\n  {command}\n' in done.stdout
    assert done.stdout.count('\n  pip ') == 1, 'what follows from it has no command of its own'
    assert 'Traceback' not in done.stderr


def test_only_the_doctor_runs_where_torch_does_not(folder: Path) -> None:
    (folder / 'torch').mkdir()
    (folder / 'torch' / '__init__.py').write_text('raise OSError("broken")')
    done = subprocess.run(
        [sys.executable, '-c', f'import sys; sys.path[:0] = [{str(folder)!r}]; import vit_dense'],
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith('OSError: broken')


@pytest.mark.parametrize(
    ('module', 'reported'),
    [
        ('vit_dense.segmentation.dataset', 'vit_dense.segmentation'),
        *(
            pytest.param(*one, marks=pytest.mark.slow)
            for one in (
                ('vit_dense.compat.default_hooks', 'vit_dense'),
                ('vit_dense.released.heads', 'vit_dense'),
                ('vit_dense.detection.necks', 'vit_dense.detection'),
            )
        ),
    ],
)
def test_errors_of_this_package_are_found(folder: Path, module: str, reported: str) -> None:
    (folder / 'sitecustomize.py').write_text(
        'import sys\n'
        'class Planted:\n'
        '    def find_spec(self, name, *_):\n'
        f'        if name == {module!r}:\n'
        '            raise ImportError("planted")\n'
        'sys.meta_path.insert(0, Planted())\n'
    )
    done = run_doctor(folder)
    assert done.returncode == 1, done.stdout
    assert f'\n{reported} cannot be imported: planted\n' in done.stdout
    assert done.stdout.endswith('\n1 problem found\n')
