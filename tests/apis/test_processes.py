"""Under several processes, every process saves the pictures of its share."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import torch
from oracle import write_coco

EVALUATE = """
import sys
from pathlib import Path
import torch
from mmengine.config import ConfigDict
from vit_dense.apis import evaluate_model
from oracle import oracle_config

torch.set_num_threads(1)
# mmengine would start them on GPUs.
torch.distributed.init_process_group('gloo')
root = Path(sys.argv[1])
for kind in ('ours', 'stock'):
    config = oracle_config(root / 'one')
    config.launcher = 'pytorch'
    config.model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None)
    config.test_dataloader.batch_size = 1
    parts = [dict(config.test_dataloader.dataset, data_root=str(root / name)) for name in
             ('one', 'two')]
    config.test_dataloader.dataset = dict(type='ConcatDataset', datasets=parts)
    config.test_evaluator = dict(type='DumpDetResults', out_file_path=str(root / 'raw.pkl'))
    config.work_dir, config.experiment_name = str(root / f'work_{kind}'), kind
    if kind == 'stock':
        config.default_hooks = ConfigDict()
        config.visualizer = dict(type='DetLocalVisualizer', name='visualizer')
    evaluate_model(config, str(root / 'oracle.pth'), show_dir=str(root / kind))
"""


def start(rank: int, port: int, root: Path) -> subprocess.Popen[str]:
    tests = Path(__file__).resolve().parents[1]
    path = os.pathsep.join([str(tests.parent), str(tests / 'apis')])
    address = {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(port), 'OMP_NUM_THREADS': '1'}
    ranks = {'RANK': str(rank), 'LOCAL_RANK': str(rank), 'WORLD_SIZE': '2'}
    return subprocess.Popen(
        [sys.executable, '-c', EVALUATE, str(root)],
        env={**os.environ, **address, **ranks, 'PYTHONPATH': path},
        cwd=root,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@pytest.mark.slow
def test_every_process_saves_its_share(tmp_path: Path) -> None:
    """Also of images with the same name in two folders, and with mmdet's own hooks."""
    for name in ('one', 'two'):
        (tmp_path / name).mkdir()
        write_coco(tmp_path / name)
    torch.save({'state_dict': {'weight': torch.zeros(1)}}, tmp_path / 'oracle.pth')
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    processes = [start(rank, port, tmp_path) for rank in (0, 1)]
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], '\n'.join(outputs)

    # Four images, alternately of process 0 and 1.
    expected = ['0.png', '0_2.png', '1.png', '1_2.png']
    for kind in ('ours', 'stock'):
        pictures = tmp_path / kind / 'test'
        assert sorted(path.name for path in pictures.iterdir()) == expected
        assert (tmp_path / kind / 'test.png').is_file()
    first, last = (cv2.imread(str(tmp_path / 'ours/test' / name)) for name in ('0.png', '1.png'))
    assert first.shape == last.shape
    assert (first != last).any()
