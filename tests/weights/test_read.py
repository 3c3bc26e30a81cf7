"""Files that are broken, hostile or something else end in one clear error."""

import io
import json
import os
import pickle
import resource
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vit_dense.weights import CheckpointReadError, load_vit_weights, read_checkpoint


class Payload:
    """A pickle that runs a command when loaded."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize('legacy', [False, True])
def test_malicious_pickle_does_not_execute(build, tmp_path, legacy):
    target = tmp_path / 'executed'
    content = {'model': build().state_dict(), 'args': Payload(target)}
    path = tmp_path / 'trap.pth'
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointReadError, match=r'trap\.pth'):
        load_vit_weights(build(), path)
    assert not target.exists()


@pytest.mark.filterwarnings('ignore:Detected pickle protocol:UserWarning')
def test_malicious_bare_pickle_and_npz(tmp_path):
    target = tmp_path / 'executed'
    (tmp_path / 'bare.pth').write_bytes(pickle.dumps(Payload(target)))
    np.savez(tmp_path / 'trap.npz', x=np.array([Payload(target)], dtype=object))
    for name in ('bare.pth', 'trap.npz'):
        with pytest.raises(CheckpointReadError, match=name):
            read_checkpoint(tmp_path / name)
    assert not target.exists()


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors', '.npz'])
@pytest.mark.parametrize('share', [0.01, 0.5, 0.98])
def test_truncated_file(build, tmp_path, suffix, share):
    state = build().state_dict()
    path = tmp_path / f'cut{suffix}'
    if suffix == '.npz':
        np.savez(path, **{name: t.numpy() for name, t in state.items()})
    elif suffix == '.safetensors':
        save_file(state, path)
    else:
        torch.save(state, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CheckpointReadError, match=rf'cut\{suffix}.*cannot be read'):
        load_vit_weights(build(), path)


@pytest.mark.parametrize('suffix', ['.pth', '.npz'])
def test_damaged_directory_of_an_archive(tmp_path, suffix):
    path = tmp_path / f'damaged{suffix}'
    if suffix == '.npz':
        np.savez(path, w=np.zeros(4))
    else:
        torch.save({'w': torch.zeros(4)}, path)
    data = path.read_bytes()
    start = data.index(b'PK\x01\x02')  # the first entry: signature, versions, flags, method
    for place in (start, start + 10):
        path.write_bytes(data[:place] + b'\x63\x63' + data[place + 2 :])
        with pytest.raises(CheckpointReadError, match=r'damaged\.\w+.*cannot be read'):
            read_checkpoint(path)


@pytest.mark.parametrize(
    ('name', 'data', 'message'),
    [
        ('pointer.pth', b'version https://git-lfs.github.com/spec/v1\n', 'git lfs pull'),
        ('page.pth', b'<!DOCTYPE html><html>', 'web page'),
        ('empty.pth', b'', 'empty'),
        ('weights.h5', b'\x89HDF', "suffix '.h5'"),
    ],
)
def test_files_that_are_no_weights(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CheckpointReadError, match=message):
        read_checkpoint(tmp_path / name)


@pytest.mark.filterwarnings('ignore:`torch.jit.trace:DeprecationWarning')
def test_torchscript_archive(tmp_path):
    torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(tmp_path / 'clip.pt')
    with pytest.raises(CheckpointReadError, match='TorchScript program'):
        read_checkpoint(tmp_path / 'clip.pt')


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match='does not exist'):
        read_checkpoint(tmp_path / 'absent.pth')
    with pytest.raises(FileNotFoundError, match='is a folder'):
        read_checkpoint(tmp_path)


def test_address():
    with pytest.raises(CheckpointReadError, match='pretrained=True'):
        read_checkpoint('https://example.org/vit.pth')


def test_other_content(tmp_path):
    torch.save([torch.ones(2)], tmp_path / 'list.pth')
    with pytest.raises(CheckpointReadError, match='list'):
        read_checkpoint(tmp_path / 'list.pth')


def test_no_tensors(build):
    with pytest.raises(CheckpointReadError, match=r"holds no tensors.*'epoch'"):
        load_vit_weights(build(), {'epoch': 3})


def _npy_header(shape):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {'descr': '<f4', 'fortran_order': False, 'shape': shape}
    )
    return file.getvalue()


def _hostile(path, kind):
    """Write a small file that asks for much memory."""
    if kind == 'zeros.npz':
        np.savez_compressed(path, x=np.zeros(2**25, np.float32))
    elif kind == 'header.npz':
        with zipfile.ZipFile(path, 'w') as archive:
            archive.writestr('x.npy', _npy_header((10**12,)) + bytes(64))
    elif kind == 'bare.npz':
        path.write_bytes(_npy_header((10**6, 10**6)) + bytes(64))
    elif kind == 'length.safetensors':
        path.write_bytes((10**15).to_bytes(8, 'little') + b'{}')
    else:
        header = {'x': {'dtype': 'F32', 'shape': [10**12], 'data_offsets': [0, 4 * 10**12]}}
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, 'little') + text + bytes(64))


@pytest.mark.parametrize(
    'name',
    ['zeros.npz', 'header.npz', 'bare.npz', 'length.safetensors', 'offsets.safetensors'],
)
def test_small_files_that_ask_for_much_memory(tmp_path, name):
    path = tmp_path / name
    _hostile(path, name)
    assert path.stat().st_size < 200_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointReadError, match=rf'{name}.*cannot be read') as caught:
        read_checkpoint(path)
    assert '\n' not in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40_000  # KiB
    if name == 'zeros.npz':
        assert 'it declares 134,217,856 bytes' in str(caught.value)


def test_compressed_weights_are_read(tmp_path):
    values = np.random.default_rng(0).normal(size=1000)
    np.savez_compressed(tmp_path / 'a.npz', x=values, zeros=np.zeros(10**6))
    found = read_checkpoint(tmp_path / 'a.npz')
    assert torch.equal(found['x'], torch.from_numpy(values))
