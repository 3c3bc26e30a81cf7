"""Masks that do not belong to their boxes are named with the likely reason; right ones pass."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from coco_files import sound
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from vit_dense.data.coco_masks import check_masks

Content = dict[str, Any]
Points = NDArray[np.float64]
WIDTH, HEIGHT, COUNT = 160, 120, 200


def content(change: Callable[[int, Points], Points] = lambda _, points: points) -> Content:
    """200 triangles of 20x10 pixels and more; `change` takes number and points `(3, 2)`."""
    rng = np.random.default_rng(0)
    annotations = []
    for number in range(COUNT):
        size = rng.integers((20, 10), (50, 40))
        x, y = rng.integers((0, 0), (WIDTH, HEIGHT) - size)
        points = np.asarray([(x, y), (x + size[0], y), (x, y + size[1])], float)
        box = [int(x), int(y), *size.tolist()]
        one = {'id': number + 1, 'image_id': 1, 'category_id': 1, 'bbox': box, 'area': 99.0}
        mask = [change(number, points).ravel().tolist()]
        annotations.append({**one, 'segmentation': mask})
    images = [{'id': 1, 'file_name': 'a.png', 'width': WIDTH, 'height': HEIGHT}]
    names = [{'id': 1, 'name': 'cat'}, {'id': 2, 'name': 'other'}]
    return {'images': images, 'annotations': annotations, 'categories': names}


def run_lengths(change: Callable[[NDArray[np.uint8]], Any]) -> Content:
    """The same as bitmaps `(H, W)`; `change` returns the segmentation of each."""
    made = content()
    for one in made['annotations']:
        runs = coco_mask.frPyObjects(one['segmentation'], HEIGHT, WIDTH)
        one['segmentation'] = change(coco_mask.decode(coco_mask.merge(runs)))
    return made


def counts(pixels: NDArray[np.uint8]) -> list[int]:
    """Lengths of the runs of 0 and 1 in flat `pixels`, beginning with 0."""
    edges = np.flatnonzero(np.diff(pixels)) + 1
    runs = np.diff([0, *edges, len(pixels)]).tolist()
    return [0, *runs] if pixels[0] else runs


def uncompressed(mask: NDArray[np.uint8]) -> dict[str, Any]:
    return {'size': [HEIGHT, WIDTH], 'counts': counts(mask.flatten(order='F'))}


def compressed(mask: NDArray[np.uint8]) -> dict[str, Any]:
    runs = coco_mask.encode(np.asfortranarray(mask))
    return {'size': list(runs['size']), 'counts': runs['counts'].decode()}


def smaller(points: Points, share: float) -> Points:
    return points[0] + (points - points[0]) * share


@pytest.mark.parametrize(
    ('right', 'named'),
    [
        (content(), 0),
        (content(lambda _, points: points + 2), 0),
        (content(lambda _, points: smaller(points, 0.75)), 0),
        (content(lambda number, points: smaller(points, 0.2 if number % 10 == 0 else 1)), 20),
        (run_lengths(uncompressed), 0),
        (run_lengths(compressed), 0),
    ],
    ids=['exact', 'rounded', 'smaller', 'a tenth shows visible parts', 'lists', 'strings'],
)
def test_masks_in_their_boxes(right: Content, named: int) -> None:
    first = content()['annotations'][0]
    # Left out by the data set: another category, a box outside the image.
    wrong = {**first, 'segmentation': [[500, 500, 510, 500, 510, 510]]}
    right['annotations'] += [{**wrong, 'category_id': 2}, {**wrong, 'bbox': [500, 9, 20, 20]}]
    note = check_masks('train.json', right, ('cat',))
    assert (note is None) == (named == 0)
    assert note is None or f'the masks of {named} of 201 annotations' in note


def test_small_objects_and_several_parts() -> None:
    right = sound()
    tiny, parts = right['annotations']
    tiny.update(bbox=[4, 5, 2, 2], segmentation=[[5, 6, 7, 6, 7, 8]])
    parts['segmentation'] = [[20, 8, 24, 8, 24, 12], [44, 36, 48, 36, 48, 40]]
    assert check_masks('train.json', right, ('cat', 'dog')) is None


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        (lambda _, points: 4 * points, 'They fit an image 4 times as wide and 4 times as high'),
        (lambda _, points: points / 2, 'They fit an image 0.5 times as wide and 0.5 times as high'),
        (lambda _, points: points * (3, 1.5), '3 times as wide and 1.5 times as high'),
        (lambda _, points: np.add(points, (70, -30)), r'They are shifted by \(70, -30\) px'),
        (lambda _, points: points[:, ::-1], 'They fit with x and y exchanged'),
        (lambda _, points: points / (WIDTH, HEIGHT), 'at most 1: polygons are in pixels'),
        (lambda n, points: points + 500 * (n % 3 == 0), r'of 200 annotations(.|\n)*shifted by'),
        (lambda _, points: points * np.nan, 'They may belong to other objects'),
        (lambda _, points: smaller(points, 0.6), 'the masks of 200 of 200 annotations do not fit'),
        (lambda n, points: points + 80 * (n % 20 == 0), 'the masks of 10 of 200 annotations'),
    ],
)
def test_masks_elsewhere(change: Callable[[int, Points], Points], reason: str) -> None:
    wrong = content(change)
    with pytest.raises(ValueError, match=reason) as error:
        check_masks('train.json', wrong, ('cat',))
    message, first = str(error.value), wrong['annotations'][0]
    for part in ('train.json: the masks of', 'annotation ', 'a.png of 160x120 px', 'bbox'):
        assert part in message
    if 'annotation 1,' in message:
        assert f'bbox [x, y, width, height]={first["bbox"]}' in message


def test_masks_outside_the_image() -> None:
    wrong = content()
    for one in wrong['annotations'][::3]:
        one['segmentation'] = [[500, 500, 600, 500, 600, 600]]
    with pytest.raises(ValueError, match=r'67 of 200(.|\n)*=\[500, 500, 600, 600\](.|\n)*outside'):
        check_masks('train.json', wrong, ('cat',))


@pytest.mark.parametrize('number', [0, 150])
def test_single_odd_masks_are_named(number: int) -> None:
    odd = content(lambda n, points: points + 300 * (n == number))
    note = check_masks('train.json', odd, ('cat',))
    assert note is not None
    assert (
        f'1 of 200 annotations do not fit their boxes. The first: annotation {number + 1},' in note
    )


@pytest.mark.parametrize('size', [[WIDTH, HEIGHT], [60, 80], None])
def test_run_lengths_of_another_image(size: list[int] | None) -> None:
    wrong = run_lengths(lambda mask: {**compressed(mask), 'size': size})
    with pytest.raises(
        ValueError, match=r'annotation 1 .*a\.png has height 120 and width 160'
    ) as e:
        check_masks('train.json', wrong, ('cat',))
    assert f'size={size}' in str(e.value)
    assert 'COCO has [height, width] there' in str(e.value)


def test_run_lengths_along_the_rows() -> None:
    wrong = run_lengths(lambda mask: {'size': [HEIGHT, WIDTH], 'counts': counts(mask.ravel())})
    with pytest.raises(ValueError, match='annotations do not fit their boxes'):
        check_masks('train.json', wrong, ('cat',))


def test_polygons_of_points() -> None:
    wrong = content()
    wrong['annotations'][7]['segmentation'] = [[[1, 2], [3, 4], [5, 6]] * 2]
    with pytest.raises(ValueError, match=r'no usable segmentation \(the first: 8\).*\[x1, y1, x2'):
        check_masks('train.json', wrong, ('cat',))


def test_masks_are_missing() -> None:
    wrong = content()
    wrong['annotations'][3]['segmentation'] = []
    with pytest.raises(ValueError, match=r'1 of 200 annotations .* no usable segmentation'):
        check_masks('train.json', wrong, ('cat',))
    wrong['annotations'][3]['category_id'] = 2
    assert check_masks('train.json', wrong, ('cat',)) is None
