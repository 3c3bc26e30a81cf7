"""Every mistake in a COCO annotation file ends in one message that names it and its remedy."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from coco_files import CLASSES, sound, write, write_images
from PIL import Image

from vit_dense.data.coco_boxes import describe_bad_boxes
from vit_dense.data.coco_checks import check_categories, read_annotations
from vit_dense.data.coco_images import check_images
from vit_dense.data.coco_masks import check_has_masks

Content = dict[str, Any]


def read(path: str, **changes: Any) -> Content:
    options = {'image_folder': 'data/images', 'data_root': 'data', 'source': 'From somewhere.'}
    return read_annotations(path, **{**options, **changes})[0]


def spoil(**changes: Any) -> Content:
    content = sound()
    content['annotations'][0].update(changes)
    return content


def test_a_sound_file_passes_all(tmp_path: Path) -> None:
    path, images = write(tmp_path, sound()), write_images(tmp_path)
    content = read(path)
    assert content == sound()
    check_categories(path, content, CLASSES, allow_others=False)
    assert describe_bad_boxes(path, content, CLASSES) is None
    check_has_masks(path, content)
    check_images(path, content, images)


def test_missing_file(tmp_path: Path) -> None:
    path = str(tmp_path / 'annotations' / 'train.json')
    with pytest.raises(ValueError, match=r'annotation file .* does not exist') as error:
        read(path)
    for part in (path, "data_root='data'", 'From somewhere.', 'ln -s', 'make demo-det'):
        assert part in str(error.value)


def test_misspelt_file(tmp_path: Path) -> None:
    path = Path(write(tmp_path, sound(), 'instances_train.json'))
    with pytest.raises(ValueError, match=r'there are: instances_train\.json'):
        read(str(path.with_name('train.json')))


def test_masks_of_classes_instead_of_boxes(tmp_path: Path) -> None:
    masks = tmp_path / 'annotations' / 'training'
    masks.mkdir(parents=True)
    cv2.imwrite(str(masks / '0.png'), np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match=r'segmentation.*vit_upernet_custom\.py'):
        read(str(tmp_path / 'annotations' / 'train.json'))


def test_not_json(tmp_path: Path) -> None:
    path = tmp_path / 'train.json'
    path.write_text('<annotation>')
    with pytest.raises(ValueError, match='cannot be read as JSON'):
        read(str(path))


@pytest.mark.parametrize(
    ('content', 'given'),
    [([1], 'list'), ({'shapes': []}, "['shapes']"), ({**sound(), 'images': 3}, 'annotations')],
)
def test_not_coco(tmp_path: Path, content: Any, given: str) -> None:
    with pytest.raises(ValueError, match='is no COCO annotation file') as error:
        read(write(tmp_path, content))
    assert given in str(error.value)
    assert 'images, categories, annotations' in str(error.value)


@pytest.mark.parametrize('key', ['images', 'annotations', 'categories'])
def test_empty(tmp_path: Path, key: str) -> None:
    path = write(tmp_path, {**sound(), key: []})
    with pytest.raises(ValueError, match=f'is empty: its list {key!r}'):
        read(path)


def test_list_of_test_images_needs_no_annotations(tmp_path: Path) -> None:
    content = sound()
    del content['annotations']
    path = write(tmp_path, content)
    assert 'annotations' not in read(path, annotated=False)
    with pytest.raises(ValueError, match='no COCO annotation file'):
        read(path)


@pytest.mark.parametrize(
    ('key', 'field'),
    [
        ('annotations', 'image_id'),
        ('annotations', 'bbox'),
        ('images', 'width'),
        ('categories', 'name'),
    ],
)
def test_entry_without_a_field(tmp_path: Path, key: str, field: str) -> None:
    content = sound()
    del content[key][1][field]
    with pytest.raises(ValueError, match=f"entry of '{key}' lacks {field}"):
        read(write(tmp_path, content))


def test_image_listed_twice(tmp_path: Path) -> None:
    content = sound()
    content['images'][1]['file_name'] = './' + content['images'][0]['file_name']
    with pytest.raises(ValueError, match=r'lists 1 images more than once, such as a\.png'):
        read(write(tmp_path, content))
    path = write(tmp_path, sound())
    with pytest.raises(ValueError, match='more than once'):
        read_annotations([path, path], image_folder='', data_root=None, source='')


def test_id_twice(tmp_path: Path) -> None:
    content = sound()
    content['images'][1]['id'] = 1
    with pytest.raises(ValueError, match="id 1 occurs more than once in 'images'"):
        read(write(tmp_path, content))


def test_annotation_of_an_unlisted_image(tmp_path: Path) -> None:
    content = sound()
    content['annotations'][1]['image_id'] = 99
    with pytest.raises(ValueError, match='annotation 2 belongs to image 99'):
        read(write(tmp_path, content))


@pytest.mark.parametrize('box', [None, [1, 2, 3], ['1', '2', '3', '4'], [1, 2, float('nan'), 4]])
def test_box_that_is_no_box(tmp_path: Path, box: Any) -> None:
    with pytest.raises(ValueError, match=r'annotation 1 has bbox=.*A box is four numbers'):
        read(write(tmp_path, spoil(bbox=box)))


@pytest.mark.parametrize('key', ['images', 'annotations', 'categories'])
def test_entry_that_is_no_object(tmp_path: Path, key: str) -> None:
    content = sound()
    content[key][1] = 'a.png'
    with pytest.raises(ValueError, match=f"an entry of '{key}' is no object: 'a.png'"):
        read(write(tmp_path, content))


def test_category_numbers_that_start_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'category_id 0, which the file does not .* lists 3, 7'):
        read(write(tmp_path, spoil(category_id=0)))


@pytest.mark.parametrize(('key', 'number'), [('image_id', '1'), ('category_id', '3')])
def test_numbers_written_as_text(tmp_path: Path, key: str, number: str) -> None:
    match = rf'{number!r}, which the file does not list.*, but {number}: write both as numbers\.'
    with pytest.raises(ValueError, match=match):
        read(write(tmp_path, spoil(**{key: number})))


@pytest.mark.parametrize('width', ['48', None, float('nan')])
def test_image_sizes_that_are_no_numbers(tmp_path: Path, width: Any) -> None:
    content = sound()
    content['images'][1]['width'] = width
    with pytest.raises(ValueError, match=rf'image 2 has width={width!r}, height=40\. Give numbers'):
        read(write(tmp_path, content))


def test_annotations_of_test_images_are_checked_where_there_are_some(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='A box is four numbers'):
        read(write(tmp_path, spoil(bbox=None)), annotated=False)
    content = {**sound(), 'annotations': []}
    assert read(write(tmp_path, content), annotated=False) == content


def test_crowds_alone(tmp_path: Path) -> None:
    content = sound()
    for one in content['annotations']:
        one['iscrowd'] = 1
    with pytest.raises(ValueError, match='all annotations are marked iscrowd'):
        read(write(tmp_path, content))


def categories(classes: tuple[str, ...], content: Content, *, allow_others: bool = False) -> str:
    with pytest.raises(ValueError, match='categories in the file') as error:
        check_categories('train.json', content, classes, allow_others=allow_others)
    return str(error.value)


def test_unknown_class_shows_both_lists_and_the_nearest_name() -> None:
    message = categories(('cat', 'dogs'), sound())
    assert "no category 'dogs' (did you mean 'dog'?)" in message
    assert "metainfo.classes: 'cat', 'dogs'" in message
    assert "categories in the file: 'cat', 'dog'" in message


def test_another_order_would_shift_labels() -> None:
    message = categories(('dog', 'cat'), sound())
    assert "Set classes=('cat', 'dog')." in message
    assert 'another order' in message


def test_category_that_the_config_does_not_name() -> None:
    message = categories(('cat',), sound())
    assert "'dog' (1 annotations)" in message
    assert "other_categories='ignore'" in message
    check_categories('train.json', sound(), ('cat',), allow_others=True)


def test_unused_category_is_no_mistake() -> None:
    content = sound()
    content['categories'].insert(0, {'id': 0, 'name': 'animals'})
    check_categories('train.json', content, CLASSES, allow_others=False)


def test_two_categories_of_one_name() -> None:
    content = sound()
    content['categories'].append({'id': 8, 'name': 'cat'})
    assert "several categories called 'cat'" in categories(CLASSES, content)


@pytest.mark.parametrize(
    ('content', 'problem'),
    [
        (spoil(bbox=[4, 5, 0, 20]), 'without area: annotation 1, bbox=[4, 5, 0, 20]'),
        (spoil(bbox=[4, 5, 10, -2]), 'without area: annotation 1'),
        (spoil(area=0), 'without area: annotation 1'),
        (spoil(bbox=[40, 5, 20, 20]), 'outside their image: annotation 1'),
        (spoil(bbox=[100, 100, 5, 5]), 'outside their image: annotation 1'),
        (spoil(bbox=[-9, 0, 20, 20]), 'a.png of 48x40 px'),
    ],
)
def test_bad_boxes(content: Content, problem: str) -> None:
    message = describe_bad_boxes('train.json', content, CLASSES)
    assert message is not None
    assert problem in message
    assert "bad_boxes='skip'" in message


def test_a_pixel_beyond_the_border_is_rounding() -> None:
    assert describe_bad_boxes('train.json', spoil(bbox=[-0.5, 0, 48.9, 40.7]), CLASSES) is None


def test_corners_instead_of_sizes() -> None:
    message = describe_bad_boxes('train.json', spoil(bbox=[30, 25, 46, 38]), CLASSES)
    assert 'Read as corners' in str(message)


def test_many_bad_boxes_are_counted() -> None:
    content = sound()
    content['annotations'] = [
        {**content['annotations'][0], 'id': n, 'bbox': [1, 1, 0, 0]} for n in range(9)
    ]
    message = str(describe_bad_boxes('train.json', content, CLASSES))
    assert 'and 4 more without area' in message
    assert message.count('bbox=') == 5


@pytest.mark.parametrize('unused', [{'ignore': 1}, {'category_id': 9}])
def test_boxes_that_training_leaves_out_anyway(unused: dict[str, int]) -> None:
    assert describe_bad_boxes('train.json', spoil(bbox=[1, 1, 0, 0], **unused), CLASSES) is None


@pytest.mark.parametrize('mask', [[], [[]], [[1, 2, 3, 4]], [[1, 2, 3, 4, 5, 6, 7]], {}, None])
def test_annotations_without_masks(mask: Any) -> None:
    with pytest.raises(ValueError, match=r'1 of 2 annotations .* no usable segm.*vit_atss_custom'):
        check_has_masks('train.json', spoil(segmentation=mask))
    check_has_masks('train.json', spoil(segmentation={'counts': 'abc', 'size': [4, 4]}))


def test_missing_images(tmp_path: Path) -> None:
    folder = write_images(tmp_path)
    (tmp_path / 'images' / 'b.png').unlink()
    with pytest.raises(ValueError, match=r'1 of the 2 images(.|\n)*b\.png(.|\n)*data_prefix'):
        check_images('train.json', sound(), folder)


def test_image_of_another_size(tmp_path: Path) -> None:
    folder = write_images(tmp_path)
    cv2.imwrite(str(tmp_path / 'images' / 'b.png'), np.zeros((20, 24, 3), np.uint8))
    with pytest.raises(ValueError, match=r'b\.png has 24x20 pixels.*48x\s*40'):
        check_images('train.json', sound(), folder)
    check_images('train.json', sound(), folder, limit=1)


def test_a_turned_photo_has_the_size_that_loading_gives(tmp_path: Path) -> None:
    folder, upright = write_images(tmp_path), sound()
    exif = Image.Exif()
    exif[0x0112] = 6  # held upright: a quarter turn
    path = tmp_path / 'images' / 'b.jpg'
    Image.new('RGB', (48, 40)).save(path, exif=exif)
    assert cv2.imread(str(path)).shape[:2] == (48, 40)
    upright['images'][1].update(file_name='b.jpg', width=40, height=48)
    check_images('train.json', upright, folder)
    upright['images'][1].update(width=48, height=40)
    with pytest.raises(ValueError, match='40x48 pixels'):
        check_images('train.json', upright, folder)


@pytest.mark.parametrize('make', [sound, lambda: json.loads(json.dumps(sound()))])
def test_the_file_is_not_changed_by_looking(make: Callable[[], Content]) -> None:
    content = make()
    describe_bad_boxes('train.json', content, CLASSES)
    check_categories('train.json', content, CLASSES, allow_others=False)
    assert content == sound()
    assert re.fullmatch(r'[ab]\.png', content['images'][0]['file_name'])
