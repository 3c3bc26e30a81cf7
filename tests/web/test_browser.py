"""The page in headless Chromium: what a user sees equals what the model predicts."""

import base64
import importlib.util
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from fake_predictor import PALETTE
from processes import ROOT, start

BROWSERS = ('chromium', 'chromium-browser', 'google-chrome')
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None or importlib.util.find_spec('playwright') is None,
        reason='needs Chromium (apt-get install chromium) and pip install playwright',
    ),
]
CONFIG = ROOT / 'configs/vit_upernet_demo.py'
WAIT = 60_000  # milliseconds, for a busy machine
# Serves predictions that are known from the pixels.
FAKE = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from fake_predictor import FakePredictor
from vit_dense.web.server import open_socket, serve
from vit_dense.web.session import Limits
opened = open_socket('127.0.0.1', 0)
print('http://127.0.0.1:%d ' % opened.getsockname()[1], flush=True)
serve(FakePredictor('detection'), opened, title='fake', limits=Limits(1, 2), examples=[])
"""


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Starts servers, returns their addresses, and stops them."""
    running: list[subprocess.Popen[str]] = []

    def serve(*command: object) -> str:
        running.append(start(*command, cwd=tmp_path))
        output = running[-1].stdout
        assert output is not None
        line = next((one for one in output if one.startswith('http')), '')
        assert line, running[-1].communicate()[1]
        return line.split()[0]

    yield serve
    for process in running:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert 'Traceback' not in errors


@pytest.fixture
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        yield started
        started.close()


def _open(browser: Any, url: str) -> Any:
    page = browser.new_context(viewport={'width': 1280, 'height': 900}).new_page()
    page.set_default_timeout(WAIT)
    page.requested = []
    page.on('request', lambda request: page.requested.append(request.url))
    page.goto(url)
    page.wait_for_selector('#picture .hint')
    return page


def _upload(page: Any, path: Path) -> None:
    page.set_input_files('#upload input[type=file]', str(path))
    page.wait_for_function(
        'name => document.querySelector("#status").innerText.startsWith(name)', arg=path.name
    )


def _picture(page: Any) -> Any:
    url = page.get_attribute('#picture img', 'src')
    content = np.frombuffer(base64.b64decode(url.partition(',')[2]), np.uint8)
    return cv2.imdecode(content, cv2.IMREAD_COLOR)[..., ::-1]


def _after(page: Any, action: Callable[[], None]) -> Any:
    """Returns the picture that follows another one because of `action`."""
    before = page.get_attribute('#picture img', 'src')
    action()
    page.wait_for_function('old => document.querySelector("#picture img")?.src != old', arg=before)
    return _picture(page)


def _set(page: Any, slider: str, value: str) -> None:
    number = page.locator(f'{slider} input[type=number]')
    number.fill(value)
    number.press('Enter')


def _download(page: Any) -> tuple[str, bytes]:
    with page.expect_download() as found:
        page.click('#save')
    return found.value.suggested_filename, Path(found.value.path()).read_bytes()


def test_the_page_shows_and_saves_what_the_model_predicts(
    serving: Callable[..., str], browser: Any, tmp_path: Path
) -> None:
    from vit_dense.apis.model import load_model

    model = load_model(CONFIG, require_checkpoint=False, device='cpu')
    checkpoint = tmp_path / 'model.pth'
    torch.save({'state_dict': model.module.state_dict(), 'meta': {}}, checkpoint)
    rng = np.random.default_rng(0)
    paths = [tmp_path / name for name in ('first.png', 'second.png')]
    for path in paths:
        coarse = rng.integers(0, 255, (4, 6, 3), np.uint8)
        cv2.imwrite(str(path), cv2.resize(coarse, (180, 120), interpolation=cv2.INTER_NEAREST))
    first, second = model.predict(list(map(str, paths)))
    url = serving(
        '-m', 'vit_dense', 'serve', CONFIG, checkpoint, '--port', 0, '--device', 'cpu',
        '--max-upload', 1,
    )  # fmt: skip

    page = _open(browser, url)
    _upload(page, paths[0])
    assert 'first.png: 180 x 120 pixels, predicted in' in page.inner_text('#status')
    np.testing.assert_array_equal(_picture(page), first.draw(opacity=0.6))
    names = page.locator('#legend .name').all_inner_texts()
    amounts = page.locator('#legend .amount').all_inner_texts()
    areas = sorted(first.areas().items(), key=lambda one: -one[1])
    assert len(areas) > 1
    assert names == [name for name, _ in areas]
    assert amounts[0] == f'{100 * areas[0][1]:.1f} %'

    # Another user's image does not change what the first one sees.
    other = _open(browser, url)
    _upload(other, paths[1])
    np.testing.assert_array_equal(_picture(other), second.draw(opacity=0.6))
    hidden = first.classes.index(names[0])
    shown = _after(page, page.locator('#legend .row').first.click)
    expected = first.draw(opacity=0.6)
    image = cv2.imread(str(paths[0]))[..., ::-1]
    expected[first.labels == hidden] = image[first.labels == hidden]
    np.testing.assert_array_equal(shown, expected)
    assert page.locator('#legend .row').first.get_attribute('aria-checked') == 'false'
    assert other.locator('#legend .row').first.get_attribute('aria-checked') == 'true'
    plain = _after(page, page.get_by_text('None', exact=True).click)
    np.testing.assert_array_equal(plain, image)
    _after(page, page.get_by_text('All', exact=True).click)
    np.testing.assert_array_equal(_after(page, lambda: _set(page, '#opacity', '0')), image)

    name, content = _download(page)
    first.save(tmp_path / 'expected.png')
    assert (name, content) == ('first_mask.png', (tmp_path / 'expected.png').read_bytes())
    assert _download(page)[0] == name

    for file, bad, text in (
        ('page.jpg', b'<!doctype html>', 'page.jpg: this is a web page (HTML), not an image'),
        ('empty.png', b'\0', 'empty.png: its size cannot be read'),
    ):
        (tmp_path / file).write_bytes(bad)
        _upload(page, tmp_path / file)
        assert page.inner_text('#status [role=alert]').startswith(text)
        assert not page.locator('#picture img').count()
        assert page.locator('#save').is_disabled()
    (tmp_path / 'large.png').write_bytes(bytes(2**20 + 1))
    page.set_input_files('#upload input[type=file]', str(tmp_path / 'large.png'))
    page.get_by_text('exceed the maximum allowed size').wait_for()
    requested = [one for one in page.requested if not one.startswith(('data:', 'blob:'))]
    assert [one for one in requested if not one.startswith(f'{url}/')] == []


def test_objects_follow_the_threshold_and_classes_are_text(
    serving: Callable[..., str], browser: Any, tmp_path: Path
) -> None:
    path = tmp_path / 'grey.png'
    cv2.imwrite(str(path), np.full((300, 280, 3), 90, np.uint8))
    page = _open(browser, serving('-c', FAKE))
    _upload(page, path)
    assert page.locator('#legend .amount').all_inner_texts() == ['2']
    more = _after(page, lambda: _set(page, '#score', '0.1'))
    page.wait_for_function('document.querySelectorAll("#legend .row").length == 2')
    assert page.locator('#legend .name').all_inner_texts() == ['dark', '<b>bright</b>']
    # The third object, of class 2, is bordered in its colour.
    assert (more[0:10, 150:] == PALETTE[2]).all(axis=-1).any()
    none = _after(page, lambda: _set(page, '#score', '1'))
    assert (none == 90).all()
    name, content = _download(page)
    assert name == 'grey.json'
    assert content.count(b'"bbox"') == 3
