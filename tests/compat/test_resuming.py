"""`--resume` takes the newest file that is whole, whatever happened to `last_checkpoint`."""

import logging
import os
from pathlib import Path
from typing import Any

import mmengine.runner
import pytest
import torch

from vit_dense.compat import resuming
from vit_dense.compat.resuming import find_latest_checkpoint


def save(path: Path, age: int, **changes: Any) -> Path:
    """Write a checkpoint `age` seconds before the epoch plus a day."""
    content = {
        'meta': {'iter': 1},
        'state_dict': {'w': torch.ones(300)},
        'optimizer': {},
        **changes,
    }
    torch.save({key: value for key, value in content.items() if value is not None}, path)
    os.utime(path, (86400 - age, 86400 - age))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three sound files; the newest is 2, and `last_checkpoint` names 3."""
    for name, age in (('iter_1', 30), ('iter_2', 10), ('iter_3', 20)):
        save(tmp_path / f'{name}.pth', age)
    save(tmp_path / 'best_mIoU_iter_2.pth', 5, optimizer=None)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_3.pth'))
    return tmp_path


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    texts: list[str] = []

    def note(text: str, logger: str, level: int) -> None:
        assert level == logging.WARNING
        texts.append(text)

    monkeypatch.setattr(resuming, 'print_log', note)
    return texts


def test_the_recorded_file_is_taken_in_silence(folder: Path, said: list[str]) -> None:
    assert find_latest_checkpoint(folder) == str(folder / 'iter_3.pth')
    assert said == []


@pytest.mark.parametrize('content', ['', None, '\0' * 64, '\xff\xfe', 'x' * 5000, '/elsewhere/ite'])
def test_without_a_usable_record_the_newest_is_taken(
    folder: Path, said: list[str], content: str | None
) -> None:
    record = folder / 'last_checkpoint'
    record.unlink() if content is None else record.write_text(content)
    assert find_latest_checkpoint(folder) == str(folder / 'iter_2.pth')
    assert len(said) == 1
    assert 'best_mIoU_iter_2.pth has no state of an optimizer' in said[0]


def test_a_moved_folder_is_searched_by_name(folder: Path, said: list[str]) -> None:
    (folder / 'last_checkpoint').write_text('/gone/work_dirs/x/iter_1.pth')
    assert find_latest_checkpoint(folder) == str(folder / 'iter_1.pth')
    assert said == []


def test_a_copied_folder_does_not_lead_to_the_original(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / 'copy'
    copy.mkdir()
    save(copy / 'iter_3.pth', 0)
    (copy / 'last_checkpoint').write_text(str(folder / 'iter_3.pth'))
    assert find_latest_checkpoint(copy) == str(copy / 'iter_3.pth')


def test_out_dir_of_the_checkpoint_hook(folder: Path, tmp_path: Path) -> None:
    work = tmp_path / 'work'
    work.mkdir()
    (work / 'last_checkpoint').write_text(str(folder / 'iter_3.pth'))
    assert find_latest_checkpoint(work) == str(folder / 'iter_3.pth')


def damage(path: Path, kind: str) -> None:
    content = bytearray(path.read_bytes())
    if kind == 'nan':
        save(
            path, 0, state_dict={'w': torch.tensor(float('nan')), 'mask': torch.tensor(-torch.inf)}
        )
    elif kind == 'other':
        save(path, 0, meta={})
    elif kind == 'absent':
        path.unlink()
    elif kind == 'flipped':
        content[content.index(b'\x80\x3f', 700)] ^= 1
        path.write_bytes(content)
    else:
        path.write_bytes(content[: {'empty': 0, 'cut': len(content) - 100}[kind]])


@pytest.mark.parametrize(
    ('kind', 'reason'),
    [
        ('nan', 'iter_3.pth holds NaN in w'),
        ('other', 'iter_3.pth has no state of an optimizer'),
        ('absent', 'iter_3.pth does not exist, though last_checkpoint names it'),
        ('flipped', 'iter_3.pth is damaged or no checkpoint ('),
        ('empty', 'iter_3.pth is damaged or no checkpoint (0 bytes)'),
        ('cut', 'iter_3.pth is damaged or no checkpoint ('),
    ],
)
def test_what_cannot_be_resumed_is_passed_over(
    folder: Path, said: list[str], kind: str, reason: str
) -> None:
    damage(folder / 'iter_3.pth', kind)
    assert find_latest_checkpoint(folder) == str(folder / 'iter_2.pth')
    assert len(said) == 1
    assert reason in said[0]
    assert f'Resuming from {folder / "iter_2.pth"}' in said[0]


def test_no_new_training_over_damaged_files(folder: Path) -> None:
    for path in folder.glob('iter_*.pth'):
        damage(path, 'cut')
    with pytest.raises(ValueError, match=r'No checkpoint in .* can be resumed: iter_3\.pth is dam'):
        find_latest_checkpoint(folder)
    for path in folder.glob('*.pth'):
        path.unlink()
    with pytest.raises(ValueError, match=r'iter_3\.pth does not exist, though last_checkpoint'):
        find_latest_checkpoint(folder)
    (folder / 'last_checkpoint').unlink()
    assert find_latest_checkpoint(folder) is None
    assert find_latest_checkpoint(folder / 'absent') is None


def test_mmengine_asks_here(folder: Path, tmp_path: Path) -> None:
    for module in (mmengine.runner, mmengine.runner.runner, mmengine.runner.checkpoint):
        assert module.find_latest_checkpoint is find_latest_checkpoint
    assert find_latest_checkpoint(str(folder)) == str(folder / 'iter_3.pth')
    for whole in ('s3://bucket/iter_3.pth', str(tmp_path)):
        (folder / 'last_checkpoint').write_text(whole)
        assert find_latest_checkpoint(str(folder)) == whole
