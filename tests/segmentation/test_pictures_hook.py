"""Pictures of input, truth and prediction land in the work directory."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from vit_dense.segmentation import SegPicturesHook

Make = Callable[..., dict[str, Any]]


class Loader(SimpleNamespace):
    """As much of a data loader as the hook asks for: a length and a data set."""

    def __len__(self) -> int:
        return len(self.dataset)


@pytest.fixture
def runner(dataset_config: Make, tmp_path: Path) -> SimpleNamespace:
    with DATASETS.switch_scope_and_registry('mmseg') as registry:
        loader = Loader(dataset=registry.build(dataset_config('validation')))
    return SimpleNamespace(
        iter=300,
        work_dir=str(tmp_path / 'work'),
        logger=MMLogger.get_instance('pictures'),
        val_dataloader=loader,
        test_dataloader=loader,
    )


def predict_one(sample: SegDataSample) -> SegDataSample:
    shape = sample.gt_sem_seg.data.shape
    sample.pred_sem_seg = PixelData(data=torch.full(shape, 2))
    return sample


def run(hook: SegPicturesHook, runner: SimpleNamespace, mode: str) -> None:
    loader = getattr(runner, f'{mode}_dataloader')
    for index in range(len(loader)):
        sample = predict_one(loader.dataset[index]['data_samples'])
        getattr(hook, f'after_{mode}_iter')(runner, index, None, [sample])
    getattr(hook, f'after_{mode}_epoch')(runner, {})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_validation_pictures(runner: SimpleNamespace) -> None:
    run(SegPicturesHook(count=2, opacity=1.0), runner, 'val')
    folder = Path(runner.work_dir) / 'pictures'
    assert names(folder) == ['val', 'val_iter_300.png']
    assert names(folder / 'val') == ['0.png', '3.png']
    row = cv2.imread(str(folder / 'val' / '0.png'))[..., ::-1]
    assert row.shape == (40, 3 * 48 + 2 * 4, 3)
    source = runner.val_dataloader.dataset[0]
    np.testing.assert_array_equal(row[:, :48], source['inputs'].flip(0).permute(1, 2, 0))
    assert (row[:, -48:] == [200, 0, 0]).all()
    truth, labels = row[:, 52:100], source['data_samples'].gt_sem_seg.data[0].numpy()
    assert (truth[labels == 1] == 9).all()
    np.testing.assert_array_equal(truth[labels == 255], row[:, :48][labels == 255])


def test_every_test_picture_in_a_chosen_folder(runner: SimpleNamespace, tmp_path: Path) -> None:
    run(SegPicturesHook(count=None, folder=str(tmp_path / 'shown')), runner, 'test')
    assert names(tmp_path / 'shown') == ['test', 'test.png']
    assert names(tmp_path / 'shown' / 'test') == ['0.png', '1.png', '2.png', '3.png']
    assert not Path(runner.work_dir).exists()


def test_each_sheet_shows_one_evaluation_only(runner: SimpleNamespace) -> None:
    hook = SegPicturesHook(count=1)
    run(hook, runner, 'val')
    runner.iter = 600
    run(hook, runner, 'val')
    folder = Path(runner.work_dir) / 'pictures'
    sizes = {cv2.imread(str(folder / f'val_iter_{step}.png')).shape for step in (300, 600)}
    assert len(sizes) == 1


def test_no_pictures_is_told_by_none_in_the_config() -> None:
    with pytest.raises(ValueError, match=r'got 0.*pictures=None'):
        SegPicturesHook(count=0)


@pytest.mark.parametrize('dtype', [torch.float32, torch.uint8])
def test_one_channel_predicts_two_classes(runner: SimpleNamespace, dtype: torch.dtype) -> None:
    """A head of one channel gives 0 and 1 as floating-point numbers."""
    sample = runner.test_dataloader.dataset[0]['data_samples']
    labels = torch.zeros(1, 40, 48, dtype=dtype)
    labels[:, 10:20, 5:30] = 1
    sample.pred_sem_seg = PixelData(data=labels)
    SegPicturesHook(opacity=1.0).after_test_iter(runner, 0, None, [sample])
    picture = cv2.imread(str(Path(runner.work_dir) / 'pictures/test/0.png'))[..., ::-1]
    found = picture[:, -48:]
    assert (found[10:20, 5:30] == 9).all(), 'the colour of class 1'
    assert (found == 9).all(2).sum() == 250
    assert (found == 0).all(2).sum() == 40 * 48 - 250


def unreadable(runner: SimpleNamespace, tmp_path: Path) -> SegDataSample:
    sample = predict_one(runner.val_dataloader.dataset[0]['data_samples'])
    path = tmp_path / 'field.npy'
    np.save(path, np.zeros((40, 48, 4)))
    sample.set_metainfo({'img_path': str(path)})
    return sample


def test_files_of_a_loader_of_the_user_s(runner: SimpleNamespace, tmp_path: Path) -> None:
    """OpenCV cannot read them: what the model was given is drawn, here resized and padded."""
    sample = unreadable(runner, tmp_path)
    sample.set_metainfo({'scale_factor': (2.0, 2.0)})
    image = torch.zeros(4, 96, 96)
    image[:3, :80, :96] = torch.tensor([30.0, 20.0, 10.0]).view(3, 1, 1)
    batch = {'inputs': [image], 'data_samples': [sample]}
    SegPicturesHook(opacity=1.0).after_val_iter(runner, 0, batch, [sample])
    picture = cv2.imread(str(Path(runner.work_dir) / 'pictures/val/field.png'))[..., ::-1]
    assert (picture[:, :48] == [10, 20, 30]).all()
    assert (picture[:, -48:] == [200, 0, 0]).all()


def test_what_cannot_be_drawn_ends_in_one_warning(
    runner: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    runner.logger = SimpleNamespace(warning=told.append, info=told.append)
    hook = SegPicturesHook(count=None)
    sample = unreadable(runner, tmp_path)
    for index in range(2):
        hook.after_val_iter(runner, index, None, [sample])
    hook.after_val_epoch(runner, {})
    (text,) = told
    assert 'field.npy' in text
    assert 'SegPicturesHook cannot draw' in text

    # The disk is full, or the data set has no colours that could be drawn.
    monkeypatch.setattr(cv2, 'imwrite', lambda *_: False)
    run(SegPicturesHook(), runner, 'val')
    assert len(told) == 2
    assert 'cannot write' in told[1]


@pytest.mark.parametrize('outputs', [[None], [torch.zeros(2)], {'a': 1}, torch.zeros(2, 3)])
def test_outputs_of_other_kinds_end_no_evaluation(runner: SimpleNamespace, outputs: Any) -> None:
    SegPicturesHook().after_val_iter(runner, 0, {'inputs': []}, outputs)


@pytest.mark.parametrize('count', ['a', 1.5, 0])
def test_a_count_is_a_whole_number(count: Any) -> None:
    with pytest.raises(ValueError, match=f'count >= 1, or None for every image, got {count!r}'):
        SegPicturesHook(count=count)
