"""Two trainings do not share a work directory."""

import os
from pathlib import Path

import pytest
from mmengine.config import Config
from tiny_training import tiny_config

from vit_dense.apis import training, work_dir
from vit_dense.apis.work_dir import lock_work_dir, make_work_dir


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_dir, '_PATIENCE', 0)


def refused(folder: Path, launcher: str = 'none') -> bool:
    """Return whether another process is refused."""
    child = os.fork()
    if child == 0:
        try:
            with lock_work_dir(str(folder), launcher):
                os._exit(0)
        except ValueError as error:
            os._exit(1 if f'is running in {folder}: both' in str(error) else 2)
    return {0: False, 1: True}[os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]


def test_a_folder_that_cannot_be_made_or_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'file').touch()
    for place in ('file', 'file/below'):
        with pytest.raises(ValueError, match=f'{place} cannot be written.*another --work-dir'):
            make_work_dir(tmp_path / place)
    make_work_dir(tmp_path / 'new/folder')
    assert (tmp_path / 'new/folder').is_dir()
    monkeypatch.setattr(os, 'access', lambda path, mode: False)
    message = 'cannot be written .no permission, or a read-only disk.'
    with pytest.raises(ValueError, match=message), lock_work_dir(str(tmp_path)):
        pass


def test_the_second_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    folder = tmp_path / 'new' / 'work'
    with lock_work_dir(str(folder)):
        assert refused(folder)
        assert not refused(tmp_path / 'other')
    assert not refused(folder)
    with pytest.raises(KeyError), lock_work_dir(str(folder)):
        raise KeyError
    assert not refused(folder)


def test_torchrun_without_a_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'none')
    with (
        lock_work_dir(str(tmp_path)),
        pytest.raises(ValueError, match='Give torchrun --launcher pytorch'),
        lock_work_dir(str(tmp_path)),
    ):
        pass


@pytest.mark.parametrize(('launcher', 'variable'), list(work_dir._RANKS.items()))
def test_one_process_of_several_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launcher: str, variable: str
) -> None:
    with lock_work_dir(str(tmp_path), launcher):
        monkeypatch.setenv(variable, '1')
        assert not refused(tmp_path, launcher)
        assert refused(tmp_path)
        monkeypatch.setenv(variable, '0')
        assert refused(tmp_path, launcher)


def test_checkpoints_of_an_earlier_training_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(training, 'print_log', lambda text, **_: seen.append(text))
    training.train_model(Config(tiny_config(tmp_path / 'work')))
    assert seen == []
    training.train_model(Config(tiny_config(tmp_path / 'work')))
    assert f'{tmp_path / "work"} holds epoch_1.pth of an earlier training' in seen[0]
    assert 'give --resume' in seen[0]


def test_training_holds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Runner:
        def train(self) -> None:
            seen.append(refused(tmp_path))

    monkeypatch.setattr(training, 'build_runner', lambda config: Runner())
    training.train_model(Config({'work_dir': str(tmp_path)}))
    assert seen == [True]
    assert not refused(tmp_path)


def test_a_disk_without_locks_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise NotImplementedError('no flock')

    texts = []
    monkeypatch.setattr(work_dir.FileLock, 'acquire', fail)
    monkeypatch.setattr(work_dir, 'print_log', lambda text, **_: texts.append(text))
    with lock_work_dir(str(tmp_path)):
        assert 'cannot be locked (no flock)' in texts[0]
