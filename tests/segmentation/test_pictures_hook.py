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
