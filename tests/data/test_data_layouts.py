"""Folders of many layouts are recognised with the right pairs, splits, classes and encodings."""

import json
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from vit_dense.data.folder_checks import LabelRule
from vit_dense.data.layouts import Layout, recognise
from vit_dense.data.layouts.images import inspect_images
from vit_dense.data.masks import read_mask

SIZE = (12, 16)  # rows, columns
VOC = '<annotation><object><name>{}</name><bndbox><xmin>2</xmin><ymin>3</ymin><xmax>8</xmax>'
VOC += '<ymax>9</ymax></bndbox></object></annotation>'
LABELME = {
    'shapes': [
        {'label': 'nut', 'shape_type': 'polygon', 'points': [[1, 1], [9, 2], [8, 8], [2, 7]]}
    ]
}
TEN = [f'{n:03}' for n in range(10)]
FOUR = TEN[:4]
RED, BLUE, BLACK = (255, 0, 0), (0, 0, 255), (0, 0, 0)


def mask(*values: Any, dtype: type = np.uint8) -> np.ndarray:
    """Returns a mask with vertical stripes of the values, or of colours."""
    stripes = np.array(values, dtype)[np.arange(SIZE[1]) * len(values) // SIZE[1]]
    return np.repeat(stripes[None], SIZE[0], axis=0)


def write(root: Path, files: dict[str, Any]) -> str:
    """Writes files: text, JSON of a dict, masks of arrays, images where the content is None."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_text(content, newline='')
        elif isinstance(content, dict):
            path.write_text(json.dumps(content))
        elif content is None:
            random = np.random.default_rng(zlib.crc32(name.encode()))
            noise = random.integers(0, 255, (*SIZE, 3), np.uint8)
            Image.fromarray(noise).save(path)
        else:
            Image.fromarray(content).save(path)
    return str(root)


def coco(names: list[str], *, outline: int = 4) -> dict[str, Any]:
    """Returns annotations of two categories, a box on each image, a polygon of `outline` points."""
    polygon = [value for n in range(outline) for value in (2 + n, 3 + (n % 2) * 4)]
    return {
        'images': [
            {'id': n, 'file_name': name, 'width': SIZE[1], 'height': SIZE[0]}
            for n, name in enumerate(names, 1)
        ],
        'annotations': [
            {'id': n, 'image_id': n, 'category_id': 1 + n % 2, 'bbox': [2, 3, 6, 4], 'iscrowd': 0}
            | {'area': 24, 'segmentation': [polygon]}
            for n in range(1, len(names) + 1)
        ],
        'categories': [{'id': 1, 'name': 'bolt'}, {'id': 2, 'name': 'nut'}],
    }


def pairs(images: str, masks: str, content: Any, names: list[str] = FOUR) -> dict[str, Any]:
    """Returns images and masks; `{}` in the patterns is the name."""
    found: dict[str, Any] = {images.format(name): None for name in names}
    return found | {masks.format(name): content for name in names}


def splits_of(layout: Layout) -> dict[str, tuple[str, Any, int]]:
    return {name: (one.images, one.labels, len(one.names)) for name, one in layout.splits.items()}


CITY = {
    f'leftImg8bit/{split}/{city}/{city}_{n}_leftImg8bit.png': None
    for split in ('train', 'val')
    for city in ('aachen', 'bonn')
    for n in FOUR
}
CITY |= {
    name.replace('leftImg8bit', 'gtFine', 1).replace('leftImg8bit.png', f'gtFine_{kind}.png'): made
    for name in CITY
    for kind, made in (
        ('labelIds', mask(0, 1, 2)),
        ('color', mask(RED, BLUE)),
        ('instanceIds', mask(0, 1000, dtype=np.uint16)),
    )
}
BINARY = mask(0, 255)
MASKS = {
    'images-masks': (
        pairs('images/{}.jpg', 'masks/{}.png', mask(0, 1, 2), TEN),
        {'train': ('images', 'masks', 8), 'val': ('images', 'masks', 2)},
        (None, '.png'),
    ),
    'suffix-L': (
        pairs('img/{}.png', 'label/{}_L.png', mask(0, 1, 2), TEN),
        {'train': ('img', 'label', 8), 'val': ('img', 'label', 2)},
        (None, '_L.png'),
    ),
    'upper-case-ending': (
        pairs('train/images/{}.JPG', 'train/masks/{}.png', mask(0, 1, 2))
        | pairs('valid/images/{}.JPG', 'valid/masks/{}.png', mask(0, 1, 2), TEN[:2]),
        {'train': ('train/images', 'train/masks', 4), 'val': ('valid/images', 'valid/masks', 2)},
        (None, '.png'),
    ),
    'splits-below': (
        pairs('img_dir/train/{}.png', 'ann_dir/train/{}.png', mask(0, 1, 2))
        | pairs('img_dir/val/{}.png', 'ann_dir/val/{}.png', mask(0, 1, 2)),
        {'train': ('img_dir/train', 'ann_dir/train', 4), 'val': ('img_dir/val', 'ann_dir/val', 4)},
        (None, '.png'),
    ),
    'splits-in-names-of-folders': (
        pairs('train/{}.png', 'trainannot/{}.png', mask(0, 1, 2))
        | pairs('val/{}.png', 'valannot/{}.png', mask(0, 1, 2))
        | pairs('test/{}.png', 'testannot/{}.png', mask(0, 1, 2)),
        {
            'train': ('train', 'trainannot', 4),
            'val': ('val', 'valannot', 4),
            'test': ('test', 'testannot', 4),
        },
        (None, '.png'),
    ),
    'cityscapes': (
        CITY,
        {
            'train': ('leftImg8bit/train', 'gtFine/train', 8),
            'val': ('leftImg8bit/val', 'gtFine/val', 8),
        },
        ('_leftImg8bit.png', '_gtFine_labelIds.png'),
    ),
    'one-folder-jpg-png': (
        pairs('{}.jpg', '{}.png', mask(0, 1, 2), TEN),
        {'train': ('.', '.', 8), 'val': ('.', '.', 2)},
        (None, '.png'),
    ),
    'one-folder-suffix': (
        pairs('data/x{}.png', 'data/x{}_mask.png', mask(0, 1, 2), TEN),
        {'train': ('data', 'data', 8), 'val': ('data', 'data', 2)},
        (None, '_mask.png'),
    ),
    'folder-below-annotations': (
        pairs('images/cat_{}.jpg', 'annotations/trimaps/cat_{}.png', mask(0, 1, 2), TEN),
        {
            'train': ('images', 'annotations/trimaps', 8),
            'val': ('images', 'annotations/trimaps', 2),
        },
        (None, '.png'),
    ),
    'splits-of-masks-alone': (
        pairs('images/{}.jpg', 'masks/train/{}.png', mask(0, 1, 2), TEN[:7])
        | pairs('images/{}.jpg', 'masks/val/{}.png', mask(0, 1, 2), TEN[7:]),
        {'train': ('images', 'masks/train', 7), 'val': ('images', 'masks/val', 3)},
        (None, '.png'),
    ),
    'voc-lists': (
        pairs('JPEGImages/{}.jpg', 'SegmentationClass/{}.png', mask(0, 1, 2), TEN)
        | {f'JPEGImages/9{n}.jpg': None for n in FOUR}
        | {f'SegmentationObject/{n}.png': mask(0, 1, 2) for n in TEN}
        | {'ImageSets/Segmentation/train.txt': '\r\n'.join([*TEN[:6], '', ''])}
        | {'ImageSets/Segmentation/val.txt': '\n'.join(f'{n}.jpg' for n in TEN[6:])}
        | {'ImageSets/Main/train.txt': '\n'.join([*TEN[:6], *(f'9{n}' for n in FOUR)])}
        | {'ImageSets/Main/cat_train.txt': '\n'.join(f'{n} -1' for n in TEN)},
        {
            'train': ('JPEGImages', 'SegmentationClass', 6),
            'val': ('JPEGImages', 'SegmentationClass', 4),
        },
        (None, '.png'),
    ),
    'lists-of-two-columns': (
        pairs('images/{}.jpg', 'labels/{}.png', mask(0, 1, 2), TEN)
        | {
            f'{split}.txt': '\n'.join(f'/x/images/{n}.jpg /x/labels/{n}.png' for n in names)
            for split, names in (('train', TEN[:7]), ('val', TEN[7:]))
        },
        {'train': ('images', 'labels', 7), 'val': ('images', 'labels', 3)},
        (None, '.png'),
    ),
}


@pytest.mark.parametrize('name', MASKS)
def test_images_and_masks_are_found(name: str, tmp_path: Path) -> None:
    files, splits, suffixes = MASKS[name]
    layout = recognise(write(tmp_path, files))
    assert (layout.task, layout.encoding.classes) == (
        'segmentation',
        ['class_0', 'class_1', 'class_2'],
    )
    assert splits_of(layout) == splits
    train = layout.splits['train']
    assert (train.img_suffix, train.suffix) == suffixes
    assert not set(train.names) & set(layout.splits['val'].names) or train.images != (
        layout.splits['val'].images
    )
    for split in splits:
        found = layout.pairs(split)
        assert [image for image, _ in found] == layout.paths(split)
        assert all(set(np.unique(read_mask(one))) == {0, 1, 2} for _, one in found)
    assert ('the names of the 3 classes', '--classes NAME,NAME,...') in layout.undecided


def palette_mask() -> Image.Image:
    picture = Image.fromarray(mask(0, 1, 2), 'P')
    picture.putpalette([0, 0, 0, 10, 20, 30, 40, 50, 60])
    return picture


# Name -> mask, file of classes, --classes; then classes, palette, label_map, decoded values.
ENCODINGS: dict[str, tuple[Any, dict[str, str], str, Any, Any, Any, set[int]]] = {
    'black-and-white': (
        (mask(0, 255), {}, '', ['background', 'foreground'], [], {0: 0, 255: 1}, {0, 1})
    ),
    'zero-one': (mask(0, 1), {}, '', ['background', 'foreground'], [], None, {0, 1}),
    'zero-one-void': (mask(0, 1, 255), {}, '', ['background', 'foreground'], [], None, {0, 1, 255}),
    'from-1': (
        *(mask(1, 2, 3), {}, ''),
        *(['class_0', 'class_1', 'class_2'], [], {1: 0, 2: 1, 3: 2}, {0, 1, 2}),
    ),
    'from-1-zero-is-other': (
        *(mask(0, 1, 2, 3), {}, 'a,b,c'),
        *(['a', 'b', 'c'], [], {0: 255, 1: 0, 2: 1, 3: 2}, {0, 1, 2, 255}),
    ),
    'palette': (
        *(palette_mask(), {}, 'x, y, z'),
        *(['x', 'y', 'z'], [[0, 0, 0], [10, 20, 30], [40, 50, 60]], None, {0, 1, 2}),
    ),
    'gaps': (
        *(mask(0, 7, 200), {'classes.txt': 'sky\ntree\nroad\n'}, ''),
        *(['sky', 'tree', 'road'], [], {0: 0, 7: 1, 200: 2}, {0, 1, 2}),
    ),
    'values-in-csv': (
        *(mask(0, 2, 5), {'_classes.csv': 'Pixel Value, Class\n0, back\n2, big car\n5, bus\n'}, ''),
        *(['back', 'big car', 'bus'], [], {0: 0, 2: 1, 5: 2}, {0, 1, 2}),
    ),
    'sixteen-bits': (
        *(mask(0, 300, 65535, dtype=np.uint16), {}, 'a,b'),
        *(['a', 'b'], [], {0: 0, 300: 1, 65535: 255}, {0, 1, 255}),
    ),
    'colours': (
        *(mask(RED, BLUE), {}, ''),
        *(['class_0', 'class_1'], [list(BLUE), list(RED)], None, {0, 1}),
    ),
    'colours-in-file': (
        *(
            mask(RED, BLUE, BLACK),
            {'label_colors.txt': '255 0 0 fire\n0 0 255 sea\n0 0 0 Void'},
            '',
        ),
        *(['fire', 'sea'], [list(RED), list(BLUE)], None, {0, 1, 255}),
    ),
}


@pytest.mark.parametrize('name', ENCODINGS)
def test_values_of_masks_are_understood(name: str, tmp_path: Path) -> None:
    made, further, given, classes, palette, label_map, decoded = ENCODINGS[name]
    files = pairs('images/{}.jpg', 'road/{}_gt.png', None)
    root = write(tmp_path, {one: None for one in files if one.startswith('images')} | further)
    (tmp_path / 'road').mkdir()
    for one in FOUR:
        picture = made if isinstance(made, Image.Image) else Image.fromarray(made)
        picture.save(tmp_path / f'road/{one}_gt.png')
    layout = recognise(root, classes=given, labels='road')
    found = layout.encoding
    assert (found.classes, found.palette, found.label_map) == (classes, palette, label_map)
    values = read_mask(layout.pairs('train')[0][1])
    rule = LabelRule(len(found.classes), 255, False, found.label_map, found.colours)
    assert set(np.unique(rule.decode(values, 'm'))) == decoded


def test_colours_that_no_class_file_lists_are_named(tmp_path: Path) -> None:
    files = pairs('images/{}.jpg', 'masks/{}.png', mask(RED, BLUE))
    layout = recognise(write(tmp_path, files | {'classes.txt': 'fire 255 0 0'}))
    assert layout.encoding.colours == [list(RED), list(BLUE)]
    assert '(0, 0, 255)' in layout.undecided[0][0]


def test_two_classes_of_one_colour_are_named(tmp_path: Path) -> None:
    files = pairs('images/{}.jpg', 'masks/{}.png', mask(RED, BLUE))
    text = 'car 255 0 0\nbus 255 0 0\nsea 0 0 255'
    layout = recognise(write(tmp_path, files | {'classes.txt': text}))
    assert layout.encoding.classes == ['bus', 'sea']
    assert 'the colour (255, 0, 0) is car or bus (taken)' in layout.undecided[0][0]


def test_white_beside_grey_levels_is_not_taken_for_void_in_silence(tmp_path: Path) -> None:
    files = pairs('images/{}.jpg', 'masks/{}.png', mask(0, 128, 255))
    layout = recognise(write(tmp_path, files))
    assert layout.encoding.label_map == {0: 0, 128: 1, 255: 255}
    assert layout.undecided == [('whether 255 is a class (taken for none)', '--classes FILE')]


def test_masks_with_the_shades_of_jpeg_are_refused(tmp_path: Path) -> None:
    write(tmp_path, {f'images/{n}.png': None for n in FOUR})
    (tmp_path / 'masks').mkdir()
    for n in FOUR:
        values = np.zeros((64, 64), np.uint8)
        values[9:30, 9:30] = 255
        cv2.imwrite(str(tmp_path / f'masks/{n}.jpg'), values)
    with pytest.raises(ValueError, match=r'JPEG file: it blurs .* masks as PNG'):
        recognise(str(tmp_path))


def test_unseen_last_class_is_not_taken_for_certain(tmp_path: Path) -> None:
    files = pairs('images/{}.jpg', 'masks/{}.png', mask(0, 1))
    layout = recognise(write(tmp_path, files), classes='a,b,c,d')
    assert ('whether 0 is a (taken) or no class', '--classes FILE') in layout.undecided


YOLO = '0 0.5 0.5 0.25 0.5\n1 0.25 0.25 0.5 0.5\n'
NAMES = "path: .\ntrain: images/train\nnames: ['bolt', 'nut']\n"
BOXES = {
    'coco': (
        {f'images/{n}.jpg': None for n in TEN}
        | {'annotations/train.json': coco([f'{n}.jpg' for n in TEN[:7]])}
        | {'annotations/val.json': coco([f'{n}.jpg' for n in TEN[7:]])},
        {
            'train': ('images', 'annotations/train.json', 7),
            'val': ('images', 'annotations/val.json', 3),
        },
        ['bolt', 'nut'],
        False,
    ),
    'coco-one-file-with-masks': (
        {f'data/{n}.jpg': None for n in TEN}
        | {'data/instances_default.json': coco([f'{n}.jpg' for n in TEN], outline=9)},
        {
            'train': ('data', 'data/instances_default.json', 8),
            'val': ('data', 'data/instances_default.json', 2),
        },
        ['bolt', 'nut'],
        True,
    ),
    'coco-beside-images': (
        {f'{split}/{n}.jpg': None for split in ('train', 'valid') for n in FOUR}
        | {
            f'{split}/_annotations.coco.json': coco([f'{n}.jpg' for n in FOUR])
            for split in ('train', 'valid')
        },
        {
            'train': ('train', 'train/_annotations.coco.json', 4),
            'val': ('valid', 'valid/_annotations.coco.json', 4),
        },
        ['bolt', 'nut'],
        False,
    ),
    'voc': (
        {f'JPEGImages/{n}.jpg': None for n in TEN}
        | {f'Annotations/{n}.xml': VOC.format('bolt' if n > '004' else 'nut') for n in TEN}
        | {'ImageSets/Main/train.txt': '\n'.join(TEN[:6])}
        | {'ImageSets/Main/val.txt': '\r\n'.join(TEN[6:])},
        {
            'train': ('JPEGImages', 'Annotations', 6),
            'val': ('JPEGImages', 'Annotations', 4),
        },
        ['bolt', 'nut'],
        False,
    ),
    'yolo': (
        {f'images/{split}/{n}.jpg': None for split in ('train', 'val') for n in FOUR}
        | {f'labels/{split}/{n}.txt': YOLO for split in ('train', 'val') for n in FOUR}
        | {'data.yaml': NAMES},
        {
            'train': ('images/train', 'labels/train', 4),
            'val': ('images/val', 'labels/val', 4),
        },
        ['bolt', 'nut'],
        False,
    ),
    'labelme': (
        {f'set/{n}.jpg': None for n in TEN} | {f'set/{n}.json': LABELME for n in TEN},
        {'train': ('set', 'set', 8), 'val': ('set', 'set', 2)},
        ['nut'],
        False,
    ),
}


@pytest.mark.parametrize('name', BOXES)
def test_images_and_boxes_are_found(name: str, tmp_path: Path) -> None:
    files, splits, classes, has_masks = BOXES[name]
    layout = recognise(write(tmp_path, files))
    assert layout.task == 'detection'
    assert splits_of(layout) == splits
    assert (layout.encoding.classes, layout.has_masks) == (classes, has_masks)


def both(tmp_path: Path) -> str:
    files = pairs('images/{}.jpg', 'masks/{}.png', mask(0, 1), TEN)
    return write(tmp_path, files | {'boxes.json': coco([f'{n}.jpg' for n in FOUR])})


def test_of_two_tasks_the_more_complete_is_taken_unless_one_is_named(tmp_path: Path) -> None:
    root = both(tmp_path)
    assert recognise(root).task == 'segmentation'
    assert recognise(root).undecided == [
        ('4 images have labels for detection, too', '--task detection')
    ]
    assert recognise(root, task='detection').encoding.classes == ['bolt', 'nut']


def test_splits_by_chance_are_the_same_in_every_run(tmp_path: Path) -> None:
    first, second = (recognise(both(tmp_path)).splits for _ in range(2))
    assert first == second
    assert sorted(first['train'].names + first['val'].names) == [f'{n}.jpg' for n in TEN]


@pytest.mark.parametrize(
    ('files', 'options', 'message'),
    [
        ({'readme.txt': 'x'}, {}, 'has no images'),
        (pairs('images/{}.jpg', 'masks/{}.png', BINARY, ['1']), {}, 'has one labelled image'),
        ({f'images/{n}.jpg': None for n in TEN}, {}, 'images has images without labels'),
        (
            {f'images/{n}.jpg': None for n in TEN} | {f'masks/m{n}x.png': BINARY for n in TEN},
            {},
            'nothing belongs to 000.jpg; other files are',
        ),
        (
            {f'{a}/{kind}/{n}.png': BINARY for a in 'ab' for kind in ('img', 'gt') for n in FOUR},
            {},
            'a/img with a/gt/*.png; b/img with b/gt/*.png. Name those to use with --images a/img',
        ),
        (
            pairs('images/{}.jpg', 'masks/{}.png', BINARY),
            {'labels': 'nowhere'},
            'There are no files nowhere below',
        ),
        (
            {f'images/{n}.jpg': None for n in FOUR} | {'train.json': coco(['else/7.jpg'])},
            {},
            'train.json names images such as else/7.jpg, which is nowhere',
        ),
    ],
)
def test_what_cannot_be_understood_is_named(
    files: dict[str, Any], options: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message.replace('*.', r'\*\.')):
        recognise(write(tmp_path, files), **options)


def test_other_inputs_than_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / 'data.zip').write_bytes(b'PK')
    for name in ('none', 'data.zip'):
        with pytest.raises(ValueError, match=rf'{name} is no folder\. Name \(unpack\)'):
            recognise(str(tmp_path / name))


def test_masks_with_too_many_colours_are_refused(tmp_path: Path) -> None:
    files = {f'{kind}/{n}.jpg': None for kind in ('images', 'masks') for n in TEN}
    with pytest.raises(ValueError, match='too many for classes'):
        recognise(write(tmp_path, files))


def test_options_choose_folders_and_endings(tmp_path: Path) -> None:
    files = pairs('a/img/{}.png', 'a/gt/{}.png', mask(0, 1)) | pairs(
        'b/img/{}.png', 'b/gt/{}_x.png', mask(0, 1, 2)
    )
    files |= {f'b/gt/{n}_y.png': mask(0, 1, 2, 3) for n in FOUR}
    layout = recognise(write(tmp_path, files), images='b/img', labels='b/gt/*_y.png')
    assert (layout.splits['train'].images, layout.splits['train'].suffix) == ('b/img', '_y.png')
    assert len(layout.encoding.classes) == 4


def test_bands_and_depth_come_from_the_images(tmp_path: Path) -> None:
    values = np.linspace(0, 4000, 12 * 16 * 4, dtype=np.uint16).reshape(12, 16, 4)
    for n in range(3):
        np.save(tmp_path / f'{n}.npy', values)
    paths = [str(tmp_path / f'{n}.npy') for n in range(3)]
    found = inspect_images(paths, np.load)
    assert (found.size, found.bands, found.max_value) == ((16, 12), 4, 4095)
    np.testing.assert_allclose(found.mean, values.mean((0, 1)) * 255 / 4095, atol=0.01)
    cv2.imwrite(str(tmp_path / 'x.png'), np.full((8, 8, 3), (10, 20, 30), np.uint8))
    found = inspect_images([str(tmp_path / 'x.png')], lambda path: np.asarray(cv2.imread(path)))
    assert (found.bands, found.max_value, found.mean) == (3, None, [30.0, 20.0, 10.0])


def test_drawings_of_masks_are_passed_over(tmp_path: Path) -> None:
    files = pairs('img/{}.png', 'seg/{}_ids.png', mask(0, 1, 2))
    files |= {f'seg/{n}_color.png': mask(RED, BLUE) for n in FOUR}
    assert recognise(write(tmp_path, files)).splits['train'].suffix == '_ids.png'


def test_images_without_mask_are_left_out_by_a_list(tmp_path: Path) -> None:
    files = pairs('images/train/{}.png', 'masks/train/{}.png', mask(0, 1))
    files |= pairs('images/val/{}.png', 'masks/val/{}.png', mask(0, 1))
    files |= {f'images/train/{n}.png': None for n in TEN}
    splits = recognise(write(tmp_path, files)).splits
    assert splits['train'].names == [f'{n}.png' for n in FOUR]
    assert (splits['train'].is_part, splits['val'].is_part) == (True, False)


def test_rare_values_are_found_if_only_colours_are_named(tmp_path: Path) -> None:
    names = [f'{n:03}' for n in range(90)]
    files = pairs('images/{}.png', 'masks/{}.png', mask(0, 1), names)
    files |= {'masks/002.png': mask(2, 3), 'classes.txt': 'a 9 0 0\nb 0 9 0\nc 0 0 9\n'}
    layout = recognise(write(tmp_path, files))
    assert layout.encoding.label_map == {0: 255, 1: 0, 2: 1, 3: 2}


def test_a_list_of_one_split_leaves_the_rest_to_the_others(tmp_path: Path) -> None:
    files = pairs('images/{}.jpg', 'masks/{}.png', mask(0, 1), TEN)
    layout = recognise(write(tmp_path, files | {'val.txt': '\n'.join(TEN[:3])}))
    assert layout.splits['val'].names == [f'{n}.jpg' for n in TEN[:3]]
    assert layout.splits['train'].names == [f'{n}.jpg' for n in TEN[3:]]
    assert layout.division == 'val.txt'


def test_without_training_images_those_for_validation_are_divided(tmp_path: Path) -> None:
    files = pairs('images/{}.jpg', 'masks/{}.png', mask(0, 1), TEN)
    files = {
        name.replace('/', f'/{split}/'): made
        for split in ('val', 'test')
        for name, made in files.items()
    }
    splits = recognise(write(tmp_path, files)).splits
    assert {name: (one.images, len(one.names)) for name, one in splits.items()} == {
        'test': ('images/test', 10),
        'train': ('images/val', 8),
        'val': ('images/val', 2),
    }


@pytest.mark.parametrize('high', [1, 255])
def test_one_class_of_binary_masks_gets_a_background(high: int, tmp_path: Path) -> None:
    files = pairs('images/{}.jpg', 'masks/{}.png', mask(0, high))
    found = recognise(write(tmp_path, files), classes='crack').encoding
    assert found.classes == ['background', 'crack']
    assert found.label_map == (None if high == 1 else {0: 0, 255: 1})


def test_numbers_in_names_are_no_values(tmp_path: Path) -> None:
    files = pairs('images/{}.jpg', 'masks/{}.png', mask(0, 1, 2))
    found = recognise(write(tmp_path, files | {'classes.txt': 'stage 3\nstage 1\n4\n'})).encoding
    assert (found.classes, found.label_map) == (['stage 3', 'stage 1', '4'], None)


def test_annotations_without_images_are_named(tmp_path: Path) -> None:
    files = {f'images/{n}.jpg': None for n in TEN} | {'train.json': coco([])}
    with pytest.raises(
        ValueError, match=r'train\.json names images such as none, which is nowhere'
    ):
        recognise(write(tmp_path, files))
