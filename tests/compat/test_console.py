"""The console shows what asks for attention, the log file everything."""

from pathlib import Path

import pytest
from mmengine.logging import MMLogger
from mmengine.runner import runner as mmengine_runner
from tiny_training import tiny_runner

import vit_dense  # noqa: F401 - installs the filter


def test_a_training_prints_few_lines_before_its_first_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mmengine_runner, 'collect_env', lambda: {'PyTorch': 'of the test'})
    hooks = {'logger': {'type': 'LoggerHook', 'interval': 1}}
    runner = tiny_runner(tmp_path / 'work', default_hooks=hooks, cfg={'model': {'width': 1}})
    runner.train()
    shown = capsys.readouterr().out
    before = shown[: shown.index('(train)')].splitlines()
    assert len(before) <= 5, shown  # the last is the beginning of the loss's own line
    (log,) = (tmp_path / 'work').glob('*/*.log')
    assert sum(str(log) in line for line in before) == 1
    written = log.read_text()
    for text in (
        'System environment',
        'PyTorch: of the test',
        'Config:\nmodel = dict(width=1)',
        'Hooks will be executed',
        'SyncBatchNorm',
    ):
        assert text in written
        assert text not in shown
    losses = [line.partition('(train)')[2] for line in shown.splitlines() if 'loss:' in line]
    assert len(losses) == 3
    assert all(loss in written for loss in losses)


@pytest.mark.parametrize(
    ('level', 'file', 'expected'), [('INFO', True, 0), ('INFO', False, 1), ('DEBUG', True, 1)]
)
def test_nothing_is_lost_without_a_file_or_when_asked_for(
    level: str, file: bool, expected: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / 'a.log') if file else None
    logger = MMLogger(f'{level} {file}', log_file=path, log_level=level)
    logger.info('Config:\nx = 1')
    logger.warning('Config: not the dump')
    shown = capsys.readouterr().out
    assert shown.count('x = 1') == expected
    assert shown.count('not the dump') == 1
