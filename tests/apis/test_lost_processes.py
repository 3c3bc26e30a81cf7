"""The death of a data loader's worker ends in its cause and what to do."""

import os
import signal
from collections.abc import Callable

import pytest
from torch.utils.data import DataLoader, Dataset

from vit_dense.apis import report_user_errors


class Deadly(Dataset):
    """Ends the process that reads its second sample."""

    def __init__(self, end: Callable[[], object]) -> None:
        self.end = end

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        if index == 1:
            self.end()
        return index


def kill(number: int) -> Callable[[], object]:
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ('end', 'cause', 'advice'),
    [
        (kill(signal.SIGKILL), 'SIGKILL', 'Lower num_workers, prefetch_factor or batch_size'),
        (kill(signal.SIGBUS), '(/dev/shm) is full', '--shm-size'),
        (kill(signal.SIGUSR1), '"User defined signal 1"', 'train_dataloader.num_workers=0'),
        (lambda: os._exit(3), 'exited without an error message', 'num_workers=0'),
    ],
)
def test_the_cause_is_the_last_that_is_printed(
    end: Callable[[], object], cause: str, advice: str, capfd: pytest.CaptureFixture[str]
) -> None:
    seen = []
    code = report_user_errors(lambda: seen.extend(DataLoader(Deadly(end), num_workers=1)))
    error = capfd.readouterr().err
    assert code == 1
    *_, first, second, end_of_text = error.split('\n')
    assert first.startswith('Error: A data loader worker (pid ')
    assert cause in first
    assert advice in second
    assert end_of_text == ''
    assert 'Traceback' not in error


def test_other_runtime_errors_are_raised() -> None:
    def fail() -> None:
        raise RuntimeError('CUDA error: an illegal memory access was encountered')

    with pytest.raises(RuntimeError, match='illegal memory access'):
        report_user_errors(fail)
