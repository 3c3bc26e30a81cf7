"""The server of the page, without a browser and without a model."""

import os
import re
import socket
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fake_predictor import FakePredictor

from vit_dense.cli import serve as command
from vit_dense.web.examples import example_images
from vit_dense.web.server import check_gradio, open_socket
from vit_dense.web.session import Limits

LIMITS = Limits(megabytes=1, megapixels=2)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / 'examples/one.png'
    path.parent.mkdir()
    cv2.imwrite(str(path), np.full((20, 30, 3), 90, np.uint8))
    return path


@pytest.fixture
def page(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip('gradio')
    monkeypatch.setenv('GRADIO_TEMP_DIR', str(tmp_path / 'uploads'))
    monkeypatch.setenv('GRADIO_ANALYTICS_ENABLED', 'False')
    from vit_dense.web.page import build_page

    return build_page(FakePredictor(), title='a<b', limits=LIMITS, examples=[str(image)])


def test_the_server_loads_nothing_from_elsewhere_and_gives_no_file_of_the_machine(
    page: Any, image: Path
) -> None:
    from fastapi.testclient import TestClient

    from vit_dense.web.page import build_app

    assert not page.analytics_enabled
    with TestClient(build_app(page, LIMITS)) as client:
        index = client.get('/')
        assert index.status_code == 200
        tags = re.findall(r'<(?:script|link|iframe)\b[^>]*>', index.text)
        assert tags
        assert not [tag for tag in tags if re.search(r'(?:src|href)=["\']?(?:https?:)?//', tag)]
        assert 'a&lt;b' in index.text or 'a\\u003cb' in index.text.lower()
        assert 'fonts.g' not in client.get('/theme.css').text
        assert client.get(f'/gradio_api/file={image}').status_code == 403
        info = client.get('/gradio_api/info').json()
        assert not info['named_endpoints']
        small = client.post('/gradio_api/upload', files={'files': ('a.png', b'x')})
        assert small.status_code == 200
        large = client.post('/gradio_api/upload', files={'files': ('a.png', bytes(2**20 + 1))})
        assert large.status_code == 413


def test_unexpected_faults_reach_the_page_as_a_message(image: Path, page: Any) -> None:
    from vit_dense.web.page import _predict, _redraw

    state, status, picture, rows, _ = _predict(
        FakePredictor(fault=KeyError('head')), str(image), LIMITS, 0.6, 0.3
    )
    assert (state, picture, rows) == (None, None, [])
    assert 'KeyError' in status['error']
    assert _redraw(None, 0.6, 0.3, []) == [{}, None, []]
    lost, *rest = _redraw(None, 0.6, 0.3, [{'name': 'dark', 'shown': True}])
    assert 'drop the image again' in lost['error']
    assert rest == [None, []]
    state, status, picture, rows, _ = _predict(FakePredictor(), str(image), LIMITS, 0.6, 0.3)
    assert status['text'].startswith('one.png: 30 x 20 pixels, predicted in ')
    assert picture.startswith('data:image/png;base64,')
    assert [(row['name'], row['amount']) for row in rows] == [('middle', '100.0 %')]


def test_uploads_and_old_results_do_not_pile_up(
    image: Path, page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastapi.testclient import TestClient

    from vit_dense.web import page as module

    monkeypatch.setattr(module, '_SWEEP', 0.1)
    monkeypatch.setattr(module, '_KEPT', 0.1)
    page = module.build_page(FakePredictor(), title='', limits=LIMITS)
    with TestClient(module.build_app(page, LIMITS)) as client:
        files = {'files': ('a.png', image.read_bytes())}
        (uploaded,) = client.post('/gradio_api/upload', files=files).json()
        deadline = time.monotonic() + 20
        while Path(uploaded).exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert page.state_holder.capacity == module._SESSIONS


def test_what_gradio_leaves_beside_uploads_is_removed(tmp_path: Path, page: Any) -> None:
    from vit_dense.web.page import _remove_leftovers

    for name, content, age in (
        ('stub', b'', 60),
        ('refused', b'1', 4000),
        ('arriving', b'1', 60),
        ('starting', b'', 0),
    ):
        (tmp_path / name).write_bytes(content)
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    _remove_leftovers(str(tmp_path))
    assert {one.name for one in tmp_path.iterdir() if one.is_file()} == {'arriving', 'starting'}


def test_a_taken_port_ends_in_a_line_that_names_the_option(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_socket('127.0.0.1', 0) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(sys, 'argv', ['serve', 'no.py', '--port', str(port)])
        assert command.main() == 2
    error = capsys.readouterr().err
    assert re.search(rf'Error: 127\.0\.0\.1:{port} cannot be opened: .*Choose .* --port\.', error)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--host', 'no.such.host.invalid'], '--host'),
        (['--port', '70000'], '--port'),
        (['--max-upload', '0'], '--max-upload 0: give a number above 0'),
        (['--max-megapixels', '-1'], '--max-megapixels -1: give'),
        (['--port', '0', '--device', 'cpu'], 'no.py'),
    ],
)
def test_wrong_options_end_in_one_line(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, 'argv', ['serve', 'no.py', *arguments])
    assert command.main() == 2
    assert message in capsys.readouterr().err


def test_the_server_listens_on_this_machine_alone_by_default() -> None:
    args = command.build_parser().parse_args(['config.py'])
    with open_socket(args.host, 0) as opened:
        assert opened.getsockname()[0] == '127.0.0.1'
        assert opened.family == socket.AF_INET


def test_without_gradio_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'gradio', None)
    with pytest.raises(ValueError, match=r'pip install "vit_dense\[web\]"'):
        check_gradio()


def test_examples_come_from_the_folder_or_else_from_the_test_data(image: Path) -> None:
    from mmengine.config import Config

    folder = image.parent
    (folder / 'bad.png').write_bytes(b'')
    assert example_images(str(folder), None) == [str(image)]
    assert example_images(None, None) == []
    with pytest.raises(ValueError, match='there is no such folder'):
        example_images(str(folder / 'none'), None)
    dataset = {'data_root': str(folder.parent), 'data_prefix': {'img_path': 'examples'}}
    config = Config({'test_dataloader': {'dataset': {'type': 'Any', 'dataset': dataset}}})
    assert example_images(None, config) == [str(image)]
    dataset['data_prefix'] = {'img': 'elsewhere/'}
    config = Config({'test_dataloader': {'dataset': dataset}})
    assert example_images(None, config) == []


@pytest.mark.parametrize('name', ['model.onnx', 'model.xml'])
def test_exported_files_are_served_without_loading_a_config(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vit_dense import runtime
    from vit_dense.web import server

    served: list[Any] = []
    predictor = FakePredictor()
    monkeypatch.setattr(runtime, 'load_exported', {name: predictor}.__getitem__, raising=False)
    monkeypatch.setattr(server, 'serve', lambda *args, **kwargs: served.append((args[0], kwargs)))
    monkeypatch.setattr(sys, 'argv', ['serve', name, '--port', '0'])
    assert command.main() == 0
    ((model, options),) = served
    assert model is predictor
    assert options == {'title': 'model', 'limits': Limits(32, 25), 'examples': []}
