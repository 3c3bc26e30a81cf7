"""Checkpoints from others: stock mmengine's, damaged and malicious ones."""

import os
import pickle
import resource
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner import CheckpointLoader
from safetensors.torch import save_file
from torch import serialization

import vit_dense  # noqa: F401  (registers the loaders)
from vit_dense.compat.safe_load import safe_load

ZIP_AND_LEGACY = pytest.mark.parametrize('as_zip', [True, False], ids=['zip', 'legacy'])


def _stock_checkpoint() -> dict[str, Any]:
    """What mmengine 0.10.7 writes."""
    hub = MessageHub('stock')
    for i in range(5):
        hub.update_scalar('train/loss', 0.5 * i, count=2)
        hub.update_scalar('train/steps', i)
    hub.update_info('best_score', np.float32(3.5))
    hub.update_info('big_endian', np.arange(6, dtype='>i2').reshape(2, 3))
    hub.update_info('fortran', np.asfortranarray(np.arange(6.0).reshape(2, 3)))
    hub.update_info('flag', np.bool_(True))
    hub.update_info('name', np.str_('mIoU'))
    weights = OrderedDict(w=torch.arange(6.0).view(2, 3))
    return {'meta': {'iter': 4}, 'state_dict': weights, 'message_hub': hub.state_dict()}


class _Payload:
    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


@ZIP_AND_LEGACY
def test_stock_mmengine_file_loads(tmp_path: Path, as_zip: bool) -> None:
    path = tmp_path / 'stock.pth'
    original = _stock_checkpoint()
    torch.save(original, path, _use_new_zipfile_serialization=as_zip)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    loaded = safe_load(path)
    assert torch.equal(loaded['state_dict']['w'], original['state_dict']['w'])
    loss = loaded['message_hub']['log_scalars']['train/loss']
    assert type(loss) is HistoryBuffer
    np.testing.assert_array_equal(loss.data[0], [0, 0.5, 1, 1.5, 2])
    np.testing.assert_array_equal(loss.data[1], [2] * 5)
    assert loss.mean() == 0.5
    assert loaded['message_hub']['log_scalars']['train/steps'].data[0].dtype.kind == 'i'
    info = loaded['message_hub']['runtime_info']
    assert (info['best_score'], info['flag'], info['name']) == (3.5, True, 'mIoU')
    assert type(info['best_score']) is float
    np.testing.assert_array_equal(info['big_endian'], np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(info['fortran'], np.arange(6).reshape(2, 3))


def test_mmengine_loads_stock_files_through_its_own_entry(tmp_path: Path) -> None:
    path = tmp_path / 'stock.pth'
    torch.save(_stock_checkpoint(), path)
    loaded = CheckpointLoader.load_checkpoint(str(path), map_location='cpu', logger=None)
    assert loaded['message_hub']['log_scalars']['train/loss'].current() == 2


def test_download_is_read_safely_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / 'source.pth'
    torch.save({'state_dict': {'w': torch.ones(2)}}, source)
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    fetched: list[str] = []

    def download(url: str, target: str, progress: bool) -> None:
        fetched.append(url)
        Path(target).write_bytes(source.read_bytes())

    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    url = 'https://example.org/models/w.pth?download=1'
    for _ in range(2):
        loaded = CheckpointLoader.load_checkpoint(url, map_location='cpu', logger=None)
        assert torch.equal(loaded['state_dict']['w'], torch.ones(2))
    assert fetched == [url]
    [cached] = (tmp_path / 'hub' / 'checkpoints').iterdir()
    _malicious(tmp_path, 'system', True).replace(cached)
    with pytest.raises(ValueError, match='refused'):
        CheckpointLoader.load_checkpoint(url, map_location='cpu', logger=None)
    assert not (tmp_path / 'executed').exists()


def _malicious(folder: Path, kind: str, as_zip: bool) -> Path:
    mark = folder / 'executed'
    write = f'open({str(mark)!r}, "w").close()'
    payload: Any = {
        'system': _Payload(os.system, f'touch {mark}'),
        'exec': _Payload(exec, write),
        # `getattr` is the name that mmengine's own files mention: it must lead nowhere.
        'getattr': _Payload(_Payload(getattr, HistoryBuffer, '__init__'), write),  # type: ignore[arg-type]
    }[kind]
    path = folder / f'{kind}.pth'
    content = {'state_dict': {'w': torch.ones(2)}, 'extra': payload}
    torch.save(content, path, _use_new_zipfile_serialization=as_zip)
    return path


@ZIP_AND_LEGACY
@pytest.mark.parametrize(
    ('kind', 'named'), [('system', r'\w+\.system'), ('exec', r'(builtins\.)?exec')]
)
def test_malicious_pickle_is_refused_unexecuted(
    tmp_path: Path, kind: str, named: str, as_zip: bool
) -> None:
    path = _malicious(tmp_path, kind, as_zip)
    with pytest.raises(ValueError, match=rf"{kind}\.pth' names '{named}'.*refused") as caught:
        safe_load(path)
    assert not (tmp_path / 'executed').exists()
    assert 'weights_only' not in str(caught.value)
    assert caught.value.__suppress_context__
    # The file is dangerous indeed: without protection it runs.
    torch.load(path, weights_only=False)
    assert (tmp_path / 'executed').exists()


def _reaching_getattr() -> bytes:
    """Hand-written pickle: `getattr(getattr(HistoryBuffer, '__init__'), '__globals__')`."""
    return b''.join(
        [
            b'\x80\x02}X\x01\x00\x00\x00a',
            b'cbuiltins\ngetattr\n',
            b'cbuiltins\ngetattr\n',
            b'cmmengine.logging.history_buffer\nHistoryBuffer\n',
            b'X\x08\x00\x00\x00__init__\x86R',
            b'X\x0b\x00\x00\x00__globals__\x86R',
            b's.',
        ]
    )


def test_getattr_of_a_file_reaches_nothing(tmp_path: Path) -> None:
    reached = pickle.loads(_reaching_getattr())['a']
    assert '__builtins__' in reached, 'stock pickle does reach the interpreter'
    path = tmp_path / 'crafted.pth'
    # The legacy format: magic number, protocol, system info, content, storage keys.
    header = [serialization.MAGIC_NUMBER, serialization.PROTOCOL_VERSION, {'little_endian': True}]
    body = b''.join(pickle.dumps(item, protocol=2) for item in header)
    path.write_bytes(body + _reaching_getattr() + pickle.dumps([], protocol=2))
    assert safe_load(path) == {'a': None}


@ZIP_AND_LEGACY
def test_names_a_user_has_allowed_stay_inert(tmp_path: Path, as_zip: bool) -> None:
    path = tmp_path / 'stock.pth'
    torch.save(_stock_checkpoint(), path, _use_new_zipfile_serialization=as_zip)
    before = set(serialization.get_safe_globals())
    with serialization.safe_globals([HistoryBuffer, np.ndarray, (getattr, 'builtins.getattr')]):
        allowed = set(serialization.get_safe_globals())
        history = safe_load(path)['message_hub']['log_scalars']['train/loss']
        assert set(serialization.get_safe_globals()) == allowed
    assert history.current() == 2
    assert set(serialization.get_safe_globals()) == before


@ZIP_AND_LEGACY
@pytest.mark.parametrize('part', [0.0, 0.01, 0.5, 0.99])
def test_truncated_file_is_one_clear_error(tmp_path: Path, as_zip: bool, part: float) -> None:
    path = tmp_path / 'cut.pth'
    torch.save({'state_dict': {'w': torch.ones(500)}}, path, _use_new_zipfile_serialization=as_zip)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(ValueError, match=rf"cut\.pth' \({path.stat().st_size} bytes\).*damaged"):
        safe_load(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / 'page.pth'
    path.write_text('<html>404 not found</html>')
    with pytest.raises(ValueError, match=r'cannot be read \(Unsupported operand 60\)'):
        safe_load(path)
    path.write_text('hello')
    with pytest.raises(ValueError, match=r'cannot be read \(not a pickle file\)'):
        safe_load(path)
    torch.save([torch.ones(2)], path)
    with pytest.raises(ValueError, match=r'got a list at the top level; it must be a dict'):
        safe_load(path)
    torch.save({'state_dict': None}, path)
    with pytest.raises(ValueError, match=r'`state_dict` is a NoneType; it must be a dict'):
        safe_load(path)
    with pytest.raises(FileNotFoundError, match=r'absent\.pth.*does not exist'):
        safe_load(tmp_path / 'absent.pth')


def test_safetensors(tmp_path: Path) -> None:
    path = str(tmp_path / 'a.safetensors')
    save_file({'weight': torch.arange(3.0)}, path)
    loaded = CheckpointLoader.load_checkpoint(path)
    assert loaded['state_dict']['weight'].tolist() == [0, 1, 2]
    Path(path).write_bytes(b'nonsense')
    with pytest.raises(ValueError, match=r'not a valid \.safetensors'):
        CheckpointLoader.load_checkpoint(path)


def test_zeros_after_a_power_loss_get_no_advice_to_unpickle(tmp_path: Path) -> None:
    path = tmp_path / 'zeros.pth'
    path.write_bytes(bytes(10_000))
    with pytest.raises(ValueError, match=r'10000 bytes. cannot be read .*damaged') as caught:
        safe_load(path)
    assert 'weights_only' not in str(caught.value)


@pytest.mark.parametrize('count', [1, 400])
def test_flipped_bytes_are_refused(tmp_path: Path, count: int) -> None:
    path = tmp_path / 'flipped.pth'
    torch.save({'state_dict': {'w': torch.arange(20_000.0)}}, path)
    content = np.fromfile(path, np.uint8)
    start = content.tobytes().index(torch.arange(20_000.0).numpy().tobytes())
    for seed in range(20):
        places = start + np.random.default_rng(seed).choice(80_000, count, replace=False)
        flipped = content.copy()
        flipped[places] ^= 1 << seed % 8
        flipped.tofile(path)
        torch.load(path)  # which does not notice
        with pytest.raises(
            ValueError, match=r'flipped\.pth.*data/0 does not match its CRC-32.*damaged'
        ):
            safe_load(path)
        with path.open('rb') as file, pytest.raises(ValueError, match=r'file server.*CRC-32'):
            safe_load(file)


def _bomb(path: Path, kind: str) -> None:
    """Write a small checkpoint that unpacks to 128 MiB."""
    torch.save({'w': torch.zeros(4)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {one.filename: archive.read(one) for one in archive.infolist()}
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            with archive.open(name, 'w') as entry:
                for _ in range(128 if kind == 'deflated' and name.endswith('data/0') else 0):
                    entry.write(bytes(2**20))
                entry.write(content)
    if kind == 'header':
        content = path.read_bytes()
        # In the central directory, 24 bytes after its mark: the size of the first entry.
        place = content.index(b'PK\x01\x02') + 24
        path.write_bytes(content[:place] + (2**32 - 2).to_bytes(4, 'little') + content[place + 4 :])


@pytest.mark.parametrize('kind', ['deflated', 'header'])
def test_a_zip_bomb_is_refused_unpacked(tmp_path: Path, kind: str) -> None:
    path = tmp_path / 'bomb.pth'
    _bomb(path, kind)
    assert path.stat().st_size < 2e6
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r'bomb\.pth.*it declares [\d,]{11,} bytes of content'):
        safe_load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40_000  # KiB
