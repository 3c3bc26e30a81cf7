"""Output into a pipe that nobody reads any more, as in `vit-dense doctor | head -1`."""

import os
import subprocess
import sys

import pytest
from processes import ROOT

from vit_dense import cli


@pytest.mark.parametrize(('option', 'unbuffered'), [('--help', ''), ('--version', '1')])
def test_a_closed_pipe_ends_silently(option: str, unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, '-m', 'vit_dense', option],
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                'PYTHONPATH': str(ROOT),
                'OMP_NUM_THREADS': '1',
                'PYTHONUNBUFFERED': unbuffered,
            },
            check=False,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (128 + 13, '')


def test_a_broken_pipe_to_another_process_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise BrokenPipeError('a worker ended')

    monkeypatch.setattr(cli, '_run', fail)
    with pytest.raises(BrokenPipeError, match='a worker ended'):
        cli.main()
