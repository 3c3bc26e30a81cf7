"""The command predict, as users call it."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from stub_predictor import StubPredictor, write_image

from vit_dense.cli import models, predict
from vit_dense.cli.models import split_model


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch):
    """Calls the command with a model that needs no files."""

    def run(*arguments: object, task: str = 'segmentation') -> int:
        monkeypatch.setattr(predict, 'open_model', lambda *_: StubPredictor(task))
        monkeypatch.setattr('sys.argv', ['vit-dense predict', *map(str, arguments)])
        return predict.main()

    return run


@pytest.mark.parametrize(
    ('names', 'count'),
    [
        (['a.pth', 'x.jpg'], 1),
        (['a.py', 'a.pth', 'x.jpg'], 2),
        (['vit_dense::a.py', 'a.pth'], 2),
        (['a.onnx', 'b.jpg'], 1),
        (['a.xml', 'b.jpg', 'c.jpg'], 1),
        (['a.py', 'x.jpg'], 1),
    ],
)
def test_model_and_inputs(names: list[str], count: int) -> None:
    assert split_model(names) == (names[:count], names[count:])


def test_a_folder(tmp_path: Path, call, capsys: pytest.CaptureFixture[str]) -> None:
    for index in range(3):
        write_image(tmp_path / f'in/{index}.png', index)
    assert call('m.pth', tmp_path / 'in', '--out', tmp_path / 'out') == 0
    assert capsys.readouterr().out.startswith('3 predicted in ')
    masks = [cv2.imread(str(tmp_path / f'out/masks/{i}.png'), 0) for i in range(3)]
    assert len(masks) == len(list((tmp_path / 'out/overlays').iterdir())) == 3
    assert call('m.pth', tmp_path / 'in', '--out', tmp_path / 'out', '--skip-existing') == 0
    assert ', 3 skipped: ' in capsys.readouterr().out


def test_what_failed_is_listed(tmp_path: Path, call, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(tmp_path / 'in/1.png', 1)
    (tmp_path / 'in/2.png').touch()
    assert call('m.pth', tmp_path / 'in', '--out', tmp_path / 'out') == 1
    errors = capsys.readouterr().err
    assert f'1 without a result:\n  {tmp_path}/in/2.png: the file is empty (0 bytes)\n' in errors


def test_a_detector_writes_one_json(tmp_path: Path, call) -> None:
    write_image(tmp_path / '1.png', 1)
    out = tmp_path / 'out'
    assert call('m.py', 'm.pth', tmp_path / '1.png', '--out', out, task='detection') == 0
    assert sorted(path.name for path in out.iterdir()) == ['json', 'overlays', 'predictions.json']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['m.pth'], 'INPUT is missing'),
        (['m.pth', 'absent/*.jpg'], 'no file matches'),
        (['m.pth', '.', '--save', 'mask'], 'masks,overlays,json'),
        (['m.pth', '.', '--tile', '--save', 'overlays'], 'Use --save masks,json'),
        (['m.pth', '.', '--tile', '--tta'], 'cannot be combined'),
        (['m.pth', '.', '--slice', '32'], 'use --tile'),
        (['m.pth', '.', '--overlap', '9'], '--overlap is for'),
        (['m.pth', '.', '--bands', '3,2,1'], 'add --tile'),
        (['m.pth', '.', '--batch-size', '0'], 'batch_size'),
        (['m.pth', '.', '--classes', 'tree'], 'road, sky, car'),
    ],
)
def test_mistakes(
    tmp_path: Path,
    call,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    write_image(tmp_path / '1.png', 1)
    monkeypatch.chdir(tmp_path)
    assert call(*arguments, '--out', 'out') == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ('option', 'value', 'message'),
    [
        ('--bands', '3;2', "'3;2': give numbers of bands, such as 3,2,1"),
        ('--scale-from', '5', "'5': give two numbers, such as 0,10000"),
    ],
)
def test_mistyped_numbers(
    call, capsys: pytest.CaptureFixture[str], option: str, value: str, message: str
) -> None:
    with pytest.raises(SystemExit):
        call('m.pth', '.', '--out', 'out', '--tile', option, value)
    assert message in capsys.readouterr().err


def test_tiles(tmp_path: Path, call, capsys: pytest.CaptureFixture[str]) -> None:
    picture = np.arange(70 * 90 * 3, dtype=np.uint8).reshape(70, 90, 3)
    cv2.imwrite(str(tmp_path / 'in.png'), picture)
    cv2.imwrite(str(tmp_path / 'in.tif'), picture)
    out = tmp_path / 'out'
    inputs = (tmp_path / 'in.png', tmp_path / 'in.tif')
    assert call('m.pth', *inputs, '--out', out, '--tile', '--overlap', '8') == 0
    printed = capsys.readouterr().out
    assert 'in.png: 90x70 pixels in 12 tiles; where tiles overlap, they differ at 0.00%' in printed
    masks = [rasterio.open(out / f'masks/in{end}').read(1) for end in ('.png.png', '.tif.tif')]
    assert (masks[0] == picture[..., 0] % 3).all()
    assert (masks[1] == masks[0]).all()
    described = json.loads((out / 'json/in.png.json').read_text())
    assert (described['height'], described['disagreement']) == (70, 0)
    assert call('m.pth', *inputs, '--out', out, '--tile', '--skip-existing') == 0
    assert capsys.readouterr().out.startswith('0 predicted')


def test_slices(tmp_path: Path, call) -> None:
    write_image(tmp_path / '1.png', 1, (64, 64))
    options = ('--slice', '32', '--overlap', '8', '--save', 'json')
    out = tmp_path / 'out'
    assert call('m.pth', tmp_path / '1.png', '--out', out, *options, task='detection') == 0
    found = json.loads((out / 'predictions.json').read_text())
    assert len(found) > 1  # a box in the corner of every slice
    assert {one['category_name'] for one in found} == {'car'}


def test_stopping(tmp_path: Path, call, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr('vit_dense.runtime.job.predict_files', interrupt)
    assert call('m.pth', 'x.png', '--out', tmp_path) == 130
    assert '--skip-existing goes on' in capsys.readouterr().err


def test_a_config_alone_has_no_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(tmp_path / '1.png'), np.zeros((40, 40, 3), np.uint8))
    arguments = ['vit_dense::vit_upernet_demo.py', f'{tmp_path}/1.png', '--out', f'{tmp_path}/out']
    monkeypatch.setattr('sys.argv', ['vit-dense predict', *arguments])
    assert predict.main() == 2
    assert 'name the checkpoint, too' in capsys.readouterr().err
    assert models.split_model(arguments[:2]) == (arguments[:1], arguments[1:2])


@pytest.mark.parametrize(
    ('names', 'device', 'message'),
    [
        (['m.onnx', 'm.pth'], 'auto', r'm\.onnx has its weights: leave m\.pth out'),
        (['m.xml'], 'cuda', r'--device cuda: exported files run on the CPU'),
    ],
)
def test_what_exported_files_do_not_take(names: list[str], device: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        models.open_model(names, device)
