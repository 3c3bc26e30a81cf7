"""What starts several processes: backends, devices, and clear errors for wrong launches."""

import os
from typing import Any

import pytest
import torch
from mmengine import dist
from torch.distributed import TCPStore

from vit_dense.apis.errors import report_user_errors
from vit_dense.apis.lost_processes import lost_process
from vit_dense.compat import processes

TORCHRUN = {
    'RANK': '0',
    'LOCAL_RANK': '0',
    'WORLD_SIZE': '1',
    'MASTER_ADDR': '127.0.0.1',
    'MASTER_PORT': '1',
}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The arguments of `init_process_group`, in the environment of torchrun."""
    calls: list[Any] = []
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(
        torch.distributed, 'init_process_group', lambda **options: calls.append(options)
    )
    return calls


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
@pytest.mark.parametrize(('asked', 'used'), [('nccl', 'gloo'), ('gloo', 'gloo'), ('mpi', 'mpi')])
def test_backend_on_a_machine_without_gpu(started: list[Any], asked: str, used: str) -> None:
    set_device = torch.cuda.set_device
    dist.init_dist('pytorch', asked, timeout=7)
    assert [one['backend'] for one in started] == [used]
    assert started[0]['timeout'].total_seconds() == 7
    assert torch.cuda.set_device is set_device


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_each_attempt_of_torchrun_has_its_own_store(
    started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = TCPStore('127.0.0.1', 0, is_master=True)
    server.set('address', 'of an ended process')
    monkeypatch.setenv('MASTER_ADDR', '127.0.0.1')
    monkeypatch.setenv('MASTER_PORT', str(server.port))
    monkeypatch.setenv('TORCHELASTIC_RESTART_COUNT', '1')
    dist.init_dist('pytorch')
    assert (started[0]['rank'], started[0]['world_size']) == (
        int(TORCHRUN['RANK']),
        int(TORCHRUN['WORLD_SIZE']),
    )
    assert not started[0]['store'].check(['address'])


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('TORCHELASTIC_RESTART_COUNT', '0'),
        ('GROUP_WORLD_SIZE', '2'),
        ('TORCHELASTIC_USE_AGENT_STORE', 'False'),
    ],
)
def test_torch_makes_other_stores(
    started: list[Any], monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """Of the first attempt; of several machines, whose counts differ; of its own for each."""
    monkeypatch.setenv('TORCHELASTIC_RESTART_COUNT', '1')
    monkeypatch.setenv(name, value)
    dist.init_dist('pytorch')
    assert 'store' not in started[0]


def test_launcher_without_its_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('LOCAL_RANK', '0')  # the tools set it
    assert report_user_errors(lambda: dist.init_dist('pytorch')) == 2
    message = capsys.readouterr().err
    assert 'RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT are not set' in message
    assert 'torchrun --nproc_per_node' in message


@pytest.mark.parametrize(
    ('launcher', 'absent', 'program'),
    [('slurm', 'SLURM_PROCID', 'srun'), ('mpi', 'OMPI_COMM_WORLD_RANK', 'mpirun')],
)
def test_other_launchers_without_their_program(
    monkeypatch: pytest.MonkeyPatch, launcher: str, absent: str, program: str
) -> None:
    monkeypatch.delenv(absent, raising=False)
    with pytest.raises(ValueError, match=f'--launcher {launcher}, but .*{absent}.*{program} '):
        dist.init_dist(launcher)


def test_more_processes_than_gpus(started: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, 'get_device', lambda: 'cuda')
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setattr(torch.cuda, 'set_device', lambda device: None)
    dist.init_dist('pytorch')
    assert [one['backend'] for one in started] == ['nccl']
    monkeypatch.setitem(os.environ, 'LOCAL_RANK', '2')
    with pytest.raises(ValueError, match='Process 3 of this machine has no GPU: PyTorch sees 2'):
        dist.init_dist('pytorch')


@pytest.mark.parametrize(
    'text',
    [
        '[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:8114',
        'NCCL error: remote process exited or there was a network error',
        '[gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1800000ms for recv operation',
    ],
)
def test_dead_process(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lost_process(RuntimeError(text)) is None, 'a single process waits for no other'
    monkeypatch.setattr(torch.distributed, 'is_initialized', lambda: True)
    assert 'Another process of this run has ended' in str(lost_process(RuntimeError(text)))
    for other in ('shapes differ', 'DataLoader timed out after 5 seconds'):
        assert lost_process(RuntimeError(other)) is None
