"""Writing the demo data set: layout, reproducible bytes, no incomplete folder."""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from examples.streets import CLASSES, DemoSpec, dataset, write_demo_dataset

SMALL = DemoSpec(training=3, validation=2, height=64, width=80)


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob('*') if path.is_file())
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


def test_layout_is_ade20ks(tmp_path: Path) -> None:
    root = write_demo_dataset(tmp_path / 'demo', SMALL)
    for split, count in (('training', 3), ('validation', 2)):
        images = sorted((root / 'images' / split).glob('*.png'))
        masks = sorted((root / 'annotations' / split).glob('*.png'))
        assert len(images) == count
        assert [path.name for path in images] == [path.name for path in masks]
        mask = cv2.imread(str(masks[0]), cv2.IMREAD_UNCHANGED)
        assert mask.shape == (64, 80)
        assert mask.max() < len(CLASSES)
    assert list(tmp_path.iterdir()) == [root]


def test_two_runs_write_identical_files(tmp_path: Path) -> None:
    first = write_demo_dataset(tmp_path / 'a', SMALL)
    second = write_demo_dataset(tmp_path / 'b', SMALL)
    assert len(digests(first)) == 13
    assert digests(first) == digests(second)


def test_splits_and_seeds_differ(tmp_path: Path) -> None:
    root = write_demo_dataset(tmp_path / 'a', SMALL)
    other = write_demo_dataset(tmp_path / 'b', DemoSpec(3, 2, 64, 80, seed=1))
    names = ('images/training/00000.png', 'images/validation/00000.png')
    found = {digests(folder)[name] for folder in (root, other) for name in names}
    assert len(found) == 4


def test_picture_is_stored_without_loss(tmp_path: Path) -> None:
    root = write_demo_dataset(tmp_path / 'demo', SMALL)
    scene = dataset.draw_scene([0, 1, 1], 64, 80)
    stored = cv2.imread(str(root / 'images/validation/00001.png'))[..., ::-1]
    np.testing.assert_array_equal(stored, scene.image)


def test_a_current_folder_is_left_alone(tmp_path: Path) -> None:
    root = write_demo_dataset(tmp_path / 'demo', SMALL)
    before = (root / dataset.MARKER).stat().st_mtime_ns
    write_demo_dataset(root, SMALL)
    assert (root / dataset.MARKER).stat().st_mtime_ns == before


def test_an_outdated_folder_is_written_anew(tmp_path: Path) -> None:
    root = write_demo_dataset(tmp_path / 'demo', SMALL)
    marker = root / dataset.MARKER
    marker.write_text(json.dumps({**json.loads(marker.read_text()), 'generator': -1}))
    stray = root / 'images' / 'training' / 'stray.png'
    stray.touch()
    write_demo_dataset(root, SMALL)
    assert not stray.exists()
    assert json.loads(marker.read_text())['generator'] == dataset.GENERATOR_VERSION


def test_an_interrupted_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(dataset, 'draw_scene', interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_demo_dataset(tmp_path / 'demo', SMALL)
    assert list(tmp_path.iterdir()) == []
    assert write_demo_dataset(tmp_path / 'demo', SMALL).is_dir()


def test_another_process_that_was_faster_is_fine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = write_demo_dataset(tmp_path / 'demo', SMALL)
    answers = iter([False, True])
    monkeypatch.setattr(dataset, '_is_current', lambda *_: next(answers))
    monkeypatch.setattr(dataset.shutil, 'rmtree', lambda *_, **__: None)
    assert write_demo_dataset(done, SMALL) == done
    assert len(list((done / 'images/training').iterdir())) == 3


def test_a_foreign_folder_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / 'holiday.jpg').touch()
    with pytest.raises(ValueError, match='not written by the demo generator'):
        write_demo_dataset(tmp_path, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ['holiday.jpg']


def test_no_scenes_is_refused() -> None:
    with pytest.raises(ValueError, match='training=0, validation=60'):
        DemoSpec(training=0)


def test_command_line(tmp_path: Path) -> None:
    root = dataset.main(['--out', str(tmp_path / 'demo'), '--train', '1', '--val', '1'])
    assert json.loads((root / dataset.MARKER).read_text())['training'] == 1
