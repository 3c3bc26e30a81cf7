"""The drawn streets: same seed, same bytes; maps that agree; a picture that needs context."""

import numpy as np
import pytest

from examples.streets import CLASSES, PALETTE, Scene, draw_scene
from examples.streets.canvas import (
    CAR,
    PEDESTRIAN,
    ROAD,
    SIGN,
    SKY,
    TREE,
    Camera,
    Canvas,
)


@pytest.fixture(scope='module')
def scenes() -> list[Scene]:
    return [draw_scene([3, index]) for index in range(16)]


def test_same_seed_gives_same_bytes_and_another_seed_another_scene() -> None:
    first, again, other = draw_scene([0, 1]), draw_scene([0, 1]), draw_scene([0, 2])
    assert first.image.tobytes() == again.image.tobytes()
    assert first.semantic.tobytes() == again.semantic.tobytes()
    assert first.instances.tobytes() == again.instances.tobytes()
    assert first.image.tobytes() != other.image.tobytes()


def test_maps_have_the_promised_types_and_sizes() -> None:
    scene = draw_scene(5, height=96, width=200)
    assert scene.image.shape == (96, 200, 3)
    assert scene.image.dtype == np.uint8
    assert scene.semantic.shape == scene.instances.shape == (96, 200)
    assert scene.semantic.dtype == np.uint8
    assert scene.instances.dtype == np.int32


def test_every_class_occurs_often_and_none_dominates(scenes: list[Scene]) -> None:
    counts = np.bincount(np.concatenate([s.semantic.ravel() for s in scenes]), minlength=8)
    assert len(counts) == len(CLASSES) == len(PALETTE)
    share = counts / counts.sum()
    assert share.min() > 0.005
    assert share.max() < 0.5
    for label in (CAR, PEDESTRIAN, SIGN, TREE):
        assert sum((scene.semantic == label).any() for scene in scenes) >= len(scenes) * 0.75


def test_instances_agree_with_classes(scenes: list[Scene]) -> None:
    for scene in scenes:
        for number in np.unique(scene.instances[scene.instances > 0]):
            labels = np.unique(scene.semantic[scene.instances == number])
            assert labels.tolist() == [scene.instance_labels[number - 1]]
        things = np.isin(scene.semantic, (CAR, PEDESTRIAN, SIGN, TREE))
        np.testing.assert_array_equal(things, scene.instances > 0)


def test_things_vary_in_scale(scenes: list[Scene]) -> None:
    heights = []
    for scene in scenes:
        for number, label in enumerate(scene.instance_labels, 1):
            rows = np.nonzero((scene.instances == number).any(axis=1))[0]
            if label == CAR and rows.size:
                heights.append(np.ptp(rows) + 1)
    assert max(heights) >= 4 * min(heights)


def test_classes_share_colours(scenes: list[Scene]) -> None:
    """The mean colours of two classes differ by less than each class varies."""
    image = np.concatenate([scene.image.reshape(-1, 3) for scene in scenes]).astype(float)
    label = np.concatenate([scene.semantic.ravel() for scene in scenes])
    road, car = image[label == ROAD], image[label == CAR]
    assert np.abs(road.mean(0) - car.mean(0)).max() < min(road.std(0).min(), car.std(0).min())


def test_a_nearer_point_lies_lower_and_further_out() -> None:
    camera = Camera(160, 128, 110.0, 80.0, 56.0, 1.7, 0.01, (200, 200, 200))
    near, far = camera.project(2, 0, 4), camera.project(2, 0, 20)
    assert near[0] > far[0] > camera.centre
    assert near[1] > far[1] > camera.horizon
    assert camera.project(0, camera.eye, 7) == (camera.centre, camera.horizon)


def test_what_is_drawn_later_hides_what_was_drawn_before() -> None:
    canvas = Canvas(Camera(64, 64, 50.0, 32.0, 32.0, 1.7, 0.0, (0, 0, 0)))
    square = [(10, 10), (30, 10), (30, 30), (10, 30)]
    tree, car = canvas.new_instance(TREE), canvas.new_instance(CAR)
    canvas.polygon(square, (1, 2, 3), label=TREE, instance=tree)
    canvas.polygon([(20, 10), (30, 10), (30, 30), (20, 30)], (9, 9, 9), label=CAR, instance=car)
    canvas.polygon([(0, 0), (5, 0), (5, 5)], (7, 7, 7), label=None)
    assert canvas.semantic[20, 15] == TREE
    assert canvas.semantic[20, 25] == CAR
    assert canvas.instances[20, 25] == car
    assert canvas.semantic[1, 2] == SKY
    assert canvas.image[1, 2].tolist() == [7, 7, 7]


def test_too_small_a_scene_is_refused() -> None:
    with pytest.raises(ValueError, match='at least 32x32 pixels, got 16x64'):
        draw_scene(0, height=16, width=64)
