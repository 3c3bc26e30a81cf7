"""COCO annotations of the drawn scenes: what pycocotools reads back is what was drawn."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools.coco import COCO

from examples.streets import CLASSES, THING_CLASSES, DemoSpec, draw_scene, write_demo_dataset
from examples.streets.coco_format import run_lengths, scenes_to_coco

SPEC = DemoSpec(training=2, validation=3)


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo_dataset(tmp_path_factory.mktemp('data') / 'demo', SPEC)


@pytest.mark.parametrize('split', ['training', 'validation'])
def test_masks_and_boxes_are_what_the_label_maps_show(root: Path, split: str) -> None:
    coco = COCO(root / 'annotations' / f'instances_{split}.json')
    assert [one['name'] for one in coco.loadCats(coco.getCatIds())] == list(THING_CLASSES)
    assert len(coco.getImgIds()) == getattr(SPEC, split)
    for image_id in coco.getImgIds():
        name = coco.loadImgs(image_id)[0]['file_name']
        labels = cv2.imread(str(root / 'annotations' / split / name), cv2.IMREAD_UNCHANGED)
        covered = np.zeros(labels.shape, np.int64)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=image_id)):
            mask = coco.annToMask(annotation).astype(bool)
            category = coco.loadCats(annotation['category_id'])[0]['name']
            assert set(labels[mask].tolist()) == {CLASSES.index(category)}
            x, y, width, height = annotation['bbox']
            assert mask[y : y + height, x : x + width].sum() == mask.sum() == annotation['area']
            for edge in (mask[y], mask[y + height - 1], mask[:, x], mask[:, x + width - 1]):
                assert edge.any(), 'the box is tight'
            assert annotation['iscrowd'] == (annotation['area'] < 16)
            covered += mask
        things = np.isin(labels, [CLASSES.index(name) for name in THING_CLASSES])
        np.testing.assert_array_equal(covered, things)


def test_numbers_are_unique_and_the_file_is_plain_json(root: Path) -> None:
    content = json.loads((root / 'annotations' / 'instances_training.json').read_text())
    numbers = [one['id'] for one in content['annotations']]
    assert numbers == list(range(1, len(numbers) + 1))
    assert {one['image_id'] for one in content['annotations']} <= {1, 2}


def test_hidden_things_are_left_out() -> None:
    scene = draw_scene([0, 0, 0])
    listed = scenes_to_coco([('a.png', scene)])['annotations']
    things = [CLASSES[label] in THING_CLASSES for label in scene.instance_labels]
    seen = [bool((scene.instances == n + 1).any()) for n in range(len(things))]
    assert len(listed) == sum(a and b for a, b in zip(things, seen, strict=True))


@pytest.mark.parametrize(
    ('mask', 'runs'),
    [
        ([[0, 0], [0, 0]], [4]),
        ([[1, 1], [1, 1]], [0, 4]),
        ([[0, 1], [1, 0]], [1, 2, 1]),
        ([[1, 0], [1, 1]], [0, 2, 1, 1]),
    ],
)
def test_run_lengths(mask: list[list[int]], runs: list[int]) -> None:
    array: NDArray[np.bool_] = np.array(mask, bool)
    assert run_lengths(array) == runs
