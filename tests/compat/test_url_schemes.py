"""Every URL scheme of mmengine reads a file without executing what it names."""

import os
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as mmengine_checkpoint

import vit_dense  # noqa: F401  (closes the schemes)

# An address for each entry of mmengine's table; {server} is replaced by the test's own.
ADDRESSES = {
    '': '{folder}/model.pth',
    'http://': '{server}/model.pth',
    'https://': 'https://example.org/model.pth',
    'pavi://': 'pavi://model.pth',
    r'(\S+\:)?s3://': 's3://bucket/model.pth',
    r'(\S+\:)?petrel://': 'cluster:petrel://bucket/model.pth',
    'modelzoo://': 'modelzoo://model',
    'torchvision://': 'torchvision://model',
    'open-mmlab://': 'open-mmlab://model',
    'openmmlab://': 'openmmlab://local',  # named by a path instead of a URL
    'mmcls://': 'mmcls://model',
}


class _Execute:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f'touch {self.mark}',)


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Serve `tmp_path` on this machine."""
    handler = partial(_Handler, directory=str(tmp_path))
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f'http://127.0.0.1:{httpd.server_port}'
        httpd.shutdown()
        thread.join()


@pytest.fixture
def load(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Load from a scheme; whatever it downloads is `tmp_path / 'model.pth'`."""
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    monkeypatch.setenv('MMENGINE_HOME', str(tmp_path))
    # A user's setting that switches torch's own protection off.
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    urls = {'model': f'{server}/model.pth', 'local': 'model.pth'}
    for table in ('get_torchvision_models', 'get_external_models', 'get_mmcls_models'):
        monkeypatch.setattr(mmengine_checkpoint, table, lambda: urls)
    backend = SimpleNamespace(get=lambda path: (tmp_path / 'model.pth').read_bytes())
    monkeypatch.setattr(mmengine_checkpoint, 'get_file_backend', lambda *_, **__: backend)
    model = SimpleNamespace(
        name='model.pth',
        download=lambda path: Path(path).write_bytes((tmp_path / 'model.pth').read_bytes()),
    )
    pavi = ModuleType('pavi')
    pavi.modelcloud = SimpleNamespace(get=lambda path: model)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, 'pavi', pavi)
    download = torch.hub.download_url_to_file

    def redirect(url: str, *args: Any, **kwargs: Any) -> None:
        download(url.replace('https://example.org', server), *args, **kwargs)

    monkeypatch.setattr(torch.hub, 'download_url_to_file', redirect)

    def load(scheme: str) -> dict[str, Any]:
        address = ADDRESSES[scheme].format(folder=tmp_path, server=server)
        assert CheckpointLoader._get_checkpoint_loader(address) is CheckpointLoader._schemes[scheme]
        return CheckpointLoader.load_checkpoint(address, map_location='cpu', logger=None)

    return load


def test_every_scheme_of_mmengine_is_tested() -> None:
    assert set(ADDRESSES) == set(CheckpointLoader._schemes)


@pytest.mark.parametrize('scheme', ADDRESSES)
def test_weights_load(tmp_path: Path, load: Any, scheme: str) -> None:
    weights = {'backbone.w': torch.arange(3.0)}
    torch.save({'state_dict': weights}, tmp_path / 'model.pth')
    state = load(scheme)['state_dict']
    name = 'w' if scheme == 'mmcls://' else 'backbone.w'
    assert list(state) == [name]
    assert state[name].tolist() == [0, 1, 2]


@pytest.mark.parametrize('scheme', ADDRESSES)
def test_malicious_file_is_refused_unexecuted(tmp_path: Path, load: Any, scheme: str) -> None:
    mark = tmp_path / 'executed'
    torch.save({'state_dict': {}, 'extra': _Execute(mark)}, tmp_path / 'model.pth')
    with pytest.raises(ValueError, match=r"names '\w+\.system'.*refused"):
        load(scheme)
    assert not mark.exists()
    # The file is dangerous indeed: without protection it runs.
    torch.load(tmp_path / 'model.pth', weights_only=False)
    assert mark.exists()


def test_files_of_equal_name_are_kept_apart(tmp_path: Path, load: Any, server: str) -> None:
    for value, folder in enumerate(('a', 'b')):
        (tmp_path / folder).mkdir()
        for name in ('model.pth', f'model-0{value}234567.pth'):
            torch.save({'w': torch.tensor(value)}, tmp_path / folder / name)
    for _ in range(2):  # from the server, then from the cache
        for value, folder in enumerate(('a', 'b')):
            for name in ('model.pth', f'model-0{value}234567.pth'):
                loaded = CheckpointLoader.load_checkpoint(f'{server}/{folder}/{name}')
                assert loaded['w'] == value
    cached = {path.name for path in (tmp_path / 'hub' / 'checkpoints').iterdir()}
    assert len(cached) == 4
    # Names with a hash of the content are shared with torch.hub.
    assert {'model-00234567.pth', 'model-01234567.pth'} < cached


def test_interrupted_download_leaves_nothing(
    tmp_path: Path, load: Any, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({'w': torch.ones(2)}, tmp_path / 'model.pth')

    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr('shutil.move', interrupt)  # the last step, when all bytes are there
        with pytest.raises(KeyboardInterrupt):
            CheckpointLoader.load_checkpoint(f'{server}/model.pth')
    assert not list((tmp_path / 'hub' / 'checkpoints').iterdir())
    assert CheckpointLoader.load_checkpoint(f'{server}/model.pth')['w'].tolist() == [1, 1]


def test_without_network_the_message_says_where_a_copy_would_be_found(
    tmp_path: Path, load: Any, server: str
) -> None:
    url = f'{server}/absent/model.pth'
    with pytest.raises(ValueError, match=r'could not be downloaded .* save the copy as') as caught:
        CheckpointLoader.load_checkpoint(url)
    place = Path(str(caught.value).rpartition('save the copy as ')[2].removesuffix('.'))
    assert place.parent == tmp_path / 'hub' / 'checkpoints'
    torch.save({'w': torch.ones(2)}, place)
    assert CheckpointLoader.load_checkpoint(url)['w'].tolist() == [1, 1]
