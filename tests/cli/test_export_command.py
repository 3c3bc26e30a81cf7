"""The command `vit-dense export`: its options, what it prints, and its mistakes."""

import sys
from pathlib import Path
from typing import Any

import pytest
from exported_models import CLASSES, segmentor

import vit_dense.apis
from vit_dense import cli
from vit_dense.apis import ExportOptions
from vit_dense.apis import export as export_module
from vit_dense.export import Proof
from vit_dense.runtime.file_description import FileDescription, Preprocessing


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, 'argv', ['vit-dense', 'export', *arguments])
    return cli.main()


def test_options_and_summary(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Any] = []

    def export_model(model: Any, out: str, options: ExportOptions) -> Any:
        seen.extend((model, out, options))
        description = FileDescription(
            'segmentation', CLASSES, (), (64, 128), None, Preprocessing(), {}, 'PlainViT + Head'
        )
        return Proof(2, 2e-6, 0.0005, 0.0, 99), description

    monkeypatch.setattr(vit_dense.apis, 'load_model', lambda *names, **_: names)
    monkeypatch.setattr(export_module, 'export_model', export_model)
    options = ('--size', '64', '128', '--gather-sampling', '--images', 'a.png', 'b')
    assert call(monkeypatch, 'x.py', 'x.pth', 'out.xml', *options) == 0
    wanted = ExportOptions('openvino', (64, 128), False, True, ['a.png', 'b'])
    assert seen == [('x.py', 'x.pth'), 'out.xml', wanted]
    text = capsys.readouterr().out
    assert call(monkeypatch, 'x.pth', 'out.onnx') == 0
    assert seen[3:] == [('x.pth', None), 'out.onnx', ExportOptions('onnx', images=[])]
    assert 'takes any number of images of 64 x 128 pixels' in text
    assert 'compared with the model on 2 images: probabilities differ by at most 2e-06' in text
    assert '0.050% of the labels differ' in text


def test_a_refusal_is_one_message(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = segmentor(head={'type': 'LinearHead', 'in_channels': 64, 'align_corners': True})
    monkeypatch.setattr(vit_dense.apis, 'load_model', lambda *_, **__: model)
    assert call(monkeypatch, 'x.py', 'x.pth', str(tmp_path / 'out.onnx')) == 2
    text = capfd.readouterr().err
    assert 'Error: LinearHead with align_corners=True cannot be exported' in text
    assert 'Traceback' not in text
    assert call(monkeypatch, 'nowhere.py', 'x.pth', str(tmp_path / 'out.pt')) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = segmentor()
    monkeypatch.setattr(vit_dense.apis, 'load_model', lambda *_, **__: model)

    def write(*_: Any) -> None:
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(export_module, '_write', write)
    assert call(monkeypatch, 'x.py', 'x.pth', str(tmp_path / 'out.onnx')) == 2
    assert 'out.onnx: it cannot be written: No space left on device' in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []
