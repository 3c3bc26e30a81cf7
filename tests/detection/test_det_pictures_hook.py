"""Pictures of truth and prediction: boxes and masks where they belong, in their class's colour."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.logging import MMLogger
from mmengine.structures import InstanceData

from vit_dense.data.instance_pictures import draw_instances
from vit_dense.detection import DetPicturesHook

Make = Callable[..., dict[str, Any]]
Build = Callable[[dict[str, Any]], Any]
RED, BLUE = (200, 0, 0), (0, 0, 200)
FACTOR = 7  # 40 rows are enlarged to at least 256


class Loader(SimpleNamespace):
    """As much of a data loader as the hook asks for: a length and a data set."""

    def __len__(self) -> int:
        return len(self.dataset)


@pytest.fixture
def runner(dataset_config: Make, build: Build, tmp_path: Path) -> SimpleNamespace:
    loader = Loader(dataset=build(dataset_config()))
    return SimpleNamespace(
        iter=30,
        work_dir=str(tmp_path / 'work'),
        logger=MMLogger.get_instance('pictures'),
        val_dataloader=loader,
        test_dataloader=loader,
    )


def predict(sample: DetDataSample) -> DetDataSample:
    masks = torch.zeros(2, 40, 48, dtype=torch.bool)
    masks[0, 10:20, 10:20] = True
    sample.pred_instances = InstanceData(
        bboxes=torch.tensor([[10.0, 10, 20, 20], [0, 0, 47, 39]]),
        labels=torch.tensor([1, 0]),
        scores=torch.tensor([0.9, 0.1]),
        masks=masks,
    )
    return sample


def test_truth_and_confident_predictions(runner: SimpleNamespace) -> None:
    hook = DetPicturesHook(opacity=1.0)
    for index in range(2):
        sample = predict(runner.val_dataloader.dataset[index]['data_samples'])
        hook.after_val_iter(runner, index, None, [sample])
    hook.after_val_epoch(runner, {})
    folder = Path(runner.work_dir) / 'pictures'
    assert sorted(path.name for path in folder.iterdir()) == ['val', 'val_iter_30.png']
    picture = cv2.imread(str(folder / 'val' / 'a.png'))[..., ::-1]
    assert picture.shape == (40 * FACTOR, 2 * 48 * FACTOR + 4, 3)
    truth, found = picture[:, : 48 * FACTOR], picture[:, 48 * FACTOR + 4 :]
    assert (truth[7 * FACTOR : 23 * FACTOR, 6 * FACTOR : 13 * FACTOR] == RED).all()
    assert (found[15 * FACTOR : 19 * FACTOR, 11 * FACTOR : 19 * FACTOR] == BLUE).all()
    # What scores 0.1 is not drawn: its box would be red along the border.
    assert not (found[:, 0] == RED).all(1).any()


def test_boxes_without_masks_leave_the_inside_alone() -> None:
    image = np.full((256, 300, 3), 90, np.uint8)
    drawn = draw_instances(image, np.array([[20.0, 30, 60, 90]]), [0], [RED], texts=['cat 80'])
    assert drawn.shape == image.shape
    assert (drawn[40:80, 25:55] == 90).all()
    assert (drawn[60, 20] == RED).all()
    assert (drawn[90, 40] == RED).all()
    assert (image == 90).all(), 'the input is not drawn into'


def test_nothing_found() -> None:
    image = np.full((300, 256, 3), 90, np.uint8)
    np.testing.assert_array_equal(draw_instances(image, np.zeros((0, 4)), [], []), image)


def test_classes_without_palette_get_colours_of_their_own(
    runner: SimpleNamespace, dataset_config: Make, build: Build
) -> None:
    config = dataset_config(metainfo={'classes': ('cat', 'dog')})
    runner.test_dataloader = Loader(dataset=build(config))
    runner.test_dataloader.dataset._metainfo.pop('palette', None)
    hook = DetPicturesHook(count=None)
    sample = predict(runner.test_dataloader.dataset[0]['data_samples'])
    hook.after_test_iter(runner, 0, None, [sample])
    hook.after_test_epoch(runner, {})
    assert (Path(runner.work_dir) / 'pictures' / 'test.png').is_file()


@pytest.mark.parametrize('score', [-0.1, 1.0])
def test_score_out_of_range(score: float) -> None:
    with pytest.raises(ValueError, match=f'score={score}'):
        DetPicturesHook(score=score)


def test_pictures_of_one_name_from_several_folders(runner: SimpleNamespace, tmp_path: Path) -> None:
    hook = DetPicturesHook(count=None)
    for name in ('one', 'two', 'one'):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        sample = predict(runner.test_dataloader.dataset[0]['data_samples'])
        (folder / 'a.png').write_bytes(Path(sample.img_path).read_bytes())
        sample.set_metainfo({'img_path': str(folder / 'a.png')})
        hook.after_test_iter(runner, 0, None, [sample])
    written = Path(runner.work_dir) / 'pictures' / 'test'
    assert sorted(one.name for one in written.iterdir()) == ['a.png', 'a_2.png']


def test_boxes_lie_on_what_the_model_was_given(runner: SimpleNamespace) -> None:
    """The input is resized to the original image, whose pixels predictions count in."""
    sample = predict(runner.val_dataloader.dataset[0]['data_samples'])
    sample.set_metainfo({'img_path': 'a.npy', 'ori_shape': (40, 48), 'scale_factor': (2.0, 2.0)})
    image = torch.zeros(3, 128, 128, dtype=torch.uint8)
    image[:, :80, :96] = torch.tensor([0, 90, 0], dtype=torch.uint8).view(3, 1, 1)
    hook = DetPicturesHook(opacity=1.0)
    hook.after_val_iter(runner, 0, {'inputs': [image]}, [sample])
    picture = cv2.imread(str(Path(runner.work_dir) / 'pictures/val/a.png'))[..., ::-1]
    found = picture[:, 48 * FACTOR + 4 :]
    assert found.shape == (40 * FACTOR, 48 * FACTOR, 3)
    assert (found[-1, -1] == [0, 90, 0]).all()
    assert (found[15 * FACTOR : 19 * FACTOR, 11 * FACTOR : 19 * FACTOR] == BLUE).all()
