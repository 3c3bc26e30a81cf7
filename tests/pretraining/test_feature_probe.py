"""The probe of features during pretraining, on made features whose classes are known."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS

from vit_dense.pretraining import FeatureProbe, LabelledImages, PretrainingCheckHook
from vit_dense.pretraining.probe import _vote

STRIDE, GRID = 4, (2, 3)


def run(features: list[torch.Tensor], labels: list[torch.Tensor]) -> dict[str, float]:
    """Figures of maps (C, h, w) and labels of patches (h, w)."""
    probe = FeatureProbe()
    for one, own in zip(features, labels, strict=True):
        pixels = own.repeat_interleave(STRIDE, 0).repeat_interleave(STRIDE, 1)
        probe.process({'data_samples': [SimpleNamespace(labels=pixels)]}, [{'features': one}])
    return probe.evaluate(len(features))


def separable(images: int, noise: float) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    labels = [torch.randint(0, 3, GRID) for _ in range(images)]
    maps = [torch.eye(8)[one].permute(2, 0, 1) + noise * torch.randn(8, *GRID) for one in labels]
    return maps, labels


def test_separable_classes_are_found() -> None:
    found = run(*separable(8, 0.05))
    assert (found['probe/knn'], found['probe/linear']) == (100, 100)
    assert found['probe/majority'] < 70


def test_features_without_information_are_not_above_the_majority() -> None:
    maps, labels = separable(60, 0.0)
    found = run([torch.randn(8, *GRID) for _ in maps], labels)
    assert found['probe/knn'] < found['probe/majority'] + 12
    assert found['probe/linear'] < found['probe/majority'] + 12


def test_the_second_half_is_tested_with_what_the_first_has_taught() -> None:
    """The features of a class in the first half are those of the other class in the second."""
    labels = [torch.randint(0, 2, GRID) for _ in range(8)]
    maps = [torch.eye(2)[one].permute(2, 0, 1) for one in labels]
    turned = [1 - one for one in labels[4:]]
    found = run(maps, labels[:4] + turned)
    assert (found['probe/knn'], found['probe/linear']) == (0, 0)


def test_figures_by_hand() -> None:
    """The first three are fitted: the majority class is 0, of which the others have 2 / 6."""
    first, last = torch.tensor([[0, 0, 0], [0, 1, 1]]), torch.tensor([[0, 0, 1], [1, 1, 1]])
    labels = [first] * 3 + [last] * 3
    found = run([torch.eye(2)[one].permute(2, 0, 1) for one in labels], labels)
    assert found == {'probe/knn': 100, 'probe/linear': 100, 'probe/majority': 33.33}


@pytest.mark.parametrize(('count', 'expected'), [(3, 1), (5, 0)])
def test_votes_are_weighted_by_similarity(count: int, expected: int) -> None:
    """exp(1 / 0.07) = 1.6e6 is between 3 and 5 times exp(0.9 / 0.07) = 3.8e5. Lengths count not."""
    near, far = torch.tensor([1.0, 0.0]), torch.tensor([0.9, 0.19**0.5])
    fitted = torch.stack([near, *[3 * far] * count])
    classes = torch.tensor([1, *[0] * count])
    assert _vote(fitted, classes, 7 * near[None]).tolist() == [expected]


def test_twenty_neighbours_vote() -> None:
    near, far = torch.tensor([1.0, 0.0]), torch.tensor([0.9, 0.19**0.5])
    fitted = torch.stack([near] * 20 + [far] * 500)
    assert _vote(fitted, torch.tensor([1] * 20 + [0] * 500), near[None]).tolist() == [1]
    assert _vote(fitted[1:], torch.tensor([1] * 1 + [0] * 518), near[None]).tolist() == [0]


def test_the_label_of_a_patch_is_its_majority_and_void_is_left_out() -> None:
    pixels = torch.full((4, 12), -1)
    pixels[:, :4] = torch.tensor([[2, 2, 2, 1]] * 4)  # 12 pixels of 2, 4 of 1
    pixels[:2, 4:8] = 1  # half is known: left out
    pixels[:3, 8:] = 1  # 12 of 16 are known
    probe = FeatureProbe()
    features = torch.arange(3.0).view(1, 1, 3)
    probe.process({'data_samples': [SimpleNamespace(labels=pixels)]}, [{'features': features}])
    tokens, labels = probe.results[0]
    assert labels.tolist() == [2, 1]
    assert tokens.tolist() == [[0.0], [2.0]]


def test_no_class_in_half_of_the_images() -> None:
    maps, labels = separable(4, 0.1)
    labels[2][:] = labels[3][:] = -1
    with pytest.raises(ValueError, match='no patch with a class in one half of its images'):
        run(maps, labels)


@DATASETS.register_module()
class WithoutMasks:
    def __len__(self) -> int:
        return 9


def test_data_without_masks_are_refused_before_training() -> None:
    with pytest.raises(ValueError, match=r'LabelledImages with 4 images.*WithoutMasks with 9'):
        PretrainingCheckHook().check_metric(FeatureProbe(), WithoutMasks(), 'validation')


def test_masks_of_a_single_class_are_refused_before_training(tmp_path: Path) -> None:
    """As of 0 and 255, which is "no class" by default; one image with a second class will do."""
    for kind, count in (('images', 3), ('masks', 1)):
        (tmp_path / kind).mkdir()
        for index in range(20):
            values = np.full((8, 8, count), 255, np.uint8)
            values[:4] = 0
            cv2.imwrite(str(tmp_path / kind / f'{index:02}.png'), values)
    names = ['LoadImageFromFile', 'LoadProbeMask', 'PackImage']
    folders = {'img_path': str(tmp_path / 'images'), 'seg_map_path': str(tmp_path / 'masks')}
    pipeline = [{'type': name} for name in names]
    data = LabelledImages(data_prefix=folders, pipeline=pipeline, test_mode=True)
    check = PretrainingCheckHook().check_metric
    with pytest.raises(ValueError, match=r'hold the class 0 alone.*label_map={0: 0, 255: 1}'):
        check(FeatureProbe(), data, 'validation')
    cv2.imwrite(str(tmp_path / 'masks/10.png'), np.ones((8, 8), np.uint8))
    check(FeatureProbe(), data, 'validation')
