"""Units of boxes and areas, and annotations that are there twice."""

from typing import Any

import pytest

from vit_dense.data.coco_boxes import check_box_values

Content = dict[str, Any]


def content(count: int = 50, **changes: Any) -> Content:
    """`count` boxes of 20x10 pixels, whose masks cover half of them."""
    annotations = [
        {
            'id': number,
            'image_id': number % 5,
            'category_id': 1,
            'bbox': [number, 5, 20, 10],
            'area': 100,
            'iscrowd': 0,
            **changes,
        }
        for number in range(1, count + 1)
    ]
    names = [{'id': 1, 'name': 'cat'}, {'id': 2, 'name': 'other'}]
    return {'images': [], 'annotations': annotations, 'categories': names}


def with_copies(count: int, **changes: Any) -> Content:
    made = content()
    copies = [{**one, 'id': 900 + one['id'], **changes} for one in made['annotations'][:count]]
    made['annotations'] += copies
    return made


@pytest.mark.parametrize(
    'right',
    [
        content(),
        content(area=200),
        content(5, area=1, bbox=[0, 3, 1, 1]),
        content(0),
        with_copies(50, category_id=2),
        with_copies(50, image_id=9),
        with_copies(50, bbox=[1, 1, 30, 30], ignore=1),
    ],
)
def test_right_values(right: Content) -> None:
    assert check_box_values('train.json', right, ('cat', 'other')) is None


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        (
            content(bbox=[0.1, 0.2, 0.5, 0.3]),
            r'above 1, such as .* bbox=\[0\.1, 0\.2, 0\.5, 0\.3\] .*pixels',
        ),
        (content(bbox=[0, 0, 1, 1]), r'no box has a value above 1'),
        (content(area=0.01), r'no area is above 1, such as area=0\.01 with bbox=\[1, 5, 20, 10\]'),
        (content(area=3200), r'areas are 16 times those of boxes, such as area=3200'),
        (with_copies(50), r'50 of 100 annotations repeat .* such as 901 and 1\.'),
        (with_copies(6), r'6 of 56 annotations repeat'),
    ],
)
def test_wrong_values(wrong: Content, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_box_values('train.json', wrong, ('cat',))


def test_unused_categories_are_not_looked_at() -> None:
    assert check_box_values('train.json', content(area=0.01), ('other',)) is None


@pytest.mark.parametrize(('count', 'named'), [(0, False), (1, True), (5, True)])
def test_a_few_copies_are_named(count: int, named: bool) -> None:
    note = check_box_values('train.json', with_copies(count), ('cat',))
    assert (note is not None) == named
    assert not named or f'{count} of {50 + count} annotations repeat' in str(note)
