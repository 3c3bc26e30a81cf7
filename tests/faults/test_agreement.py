"""Two processes stop at the same iteration, whichever has the signal or the NaN."""

import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from noisy_training import assert_same, noisy_config, train
from torch import distributed, multiprocessing

from vit_dense.engine.non_finite import NonFiniteError

AT = 3


class Disturb(Hook):
    """In process 1, sends a signal, or makes a weight of its model NaN."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def before_train_iter(self, runner, *args, **kwargs) -> None:  # type: ignore[no-untyped-def]
        if distributed.get_rank() == 1 and runner.iter + 1 == AT:
            if self.kind == 'signal':
                os.kill(os.getpid(), signal.SIGTERM)
            else:
                runner.model.linear.weight.data[0, 0] = float('nan')


def work(rank: int, kind: str, folder: str) -> None:
    store = f'file://{folder}/store'
    distributed.init_process_group('gloo', init_method=store, rank=rank, world_size=2)
    config = noisy_config(Path(folder, 'work'), custom_hooks=[Disturb(kind)])
    if kind == 'signal':
        train(config)
    with pytest.raises(NonFiniteError, match=f'Iteration {AT}: not finite.*nan'):
        train(config)
    sys.exit(1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('kind', 'code', 'saved'),
    [
        ('signal', 128 + signal.SIGTERM, f'interrupted_iter_{AT}.pth'),
        ('nan', 1, f'non_finite/iter_{AT - 1}.pth'),
    ],
)
def test_both_processes_stop_at_the_same_iteration(
    kind: str, code: int, saved: str, tmp_path: Path
) -> None:
    context = multiprocessing.get_context('spawn')
    processes = [context.Process(target=work, args=(rank, kind, str(tmp_path))) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=300)
    assert [process.exitcode for process in processes] == [code, code]
    assert (tmp_path / 'work' / saved).is_file()
    state = torch.load(tmp_path / 'work' / saved, weights_only=False)
    assert state['meta']['iter'] == (AT if kind == 'signal' else AT - 1)
    if kind == 'nan':
        assert_same(tmp_path / f'work/iter_{AT - 1}.pth', tmp_path / 'work' / saved)
