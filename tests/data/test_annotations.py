"""Annotations of every format become the same COCO content; several files become one."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from coco_files import CLASSES, sound, write, write_images, write_voc, write_yolo
from pycocotools import mask as coco_mask

from vit_dense.data.annotations import folders, read_boxes, recognise_format
from vit_dense.data.annotations.voc import read_labels

Content = dict[str, Any]
Rows = dict[str, list[tuple]]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


def write_labelme(root: Path, content: Content) -> str:
    folder = root / 'labelme'
    folder.mkdir()
    for image in content['images']:
        points = [
            np.reshape(one['segmentation'][0], (-1, 2)).tolist()
            for one in content['annotations']
            if one['image_id'] == image['id']
        ]
        name = 'cat' if image['id'] == 1 else 'dog'
        shapes = [{'label': name, 'points': one, 'shape_type': 'polygon'} for one in points]
        sizes = {'imageWidth': None, 'imageHeight': None}  # as some programs write
        text = json.dumps({'shapes': shapes, 'imagePath': '..\\x.png', **sizes})
        (folder / image['file_name']).with_suffix('.json').write_text(text)
    return str(folder)


FORMATS = {
    'coco': write,
    'voc': write_voc,
    'yolo': write_yolo,
    'yolo polygons': lambda root, content: write_yolo(root, content, polygons=True),
    'labelme': write_labelme,
}


def rows(content: Content) -> Rows:
    """Name of each image -> size, and per object name, box, area, crowd, polygons."""
    names = {one['id']: one['name'] for one in content['categories']}
    found: Rows = {}
    for image in content['images']:
        objects = [
            (
                names[one['category_id']],
                *np.round([*one['bbox'], one['area']], 2).tolist(),
                one['iscrowd'],
                [np.round(polygon, 2).tolist() for polygon in one.get('segmentation', [])],
            )
            for one in content['annotations']
            if one['image_id'] == image['id']
        ]
        found[image['file_name']] = [(image['width'], image['height']), *objects]
    return found


@pytest.mark.parametrize('name', FORMATS)
def test_formats_give_equal_boxes(tmp_path: Path, name: str) -> None:
    images, path = write_images(tmp_path), FORMATS[name](tmp_path, sound())
    assert recognise_format(path) == name.split()[0]
    expected = sound()
    if name in ('voc', 'yolo'):
        for one in expected['annotations']:
            del one['segmentation']
    for classes in (CLASSES, None):
        content, notes = read_boxes(path, image_folder=images, classes=classes)
        assert rows(content) == rows(expected)
        assert [one['name'] for one in content['categories']] == ['cat', 'dog']
        assert notes == []


def test_order_of_the_classes(tmp_path: Path) -> None:
    images, path = write_images(tmp_path), write_voc(tmp_path, sound())
    content, _ = read_boxes(path, image_folder=images, classes=('dog', 'bird'))
    assert [one['name'] for one in content['categories']] == ['dog', 'bird', 'cat']
    assert rows(content)['a.png'][1][:5] == ('cat', 4, 5, 10, 20)


def test_what_is_not_a_format(tmp_path: Path) -> None:
    (tmp_path / 'notes.md').write_text('hello\n')
    (tmp_path / 'meta.json').write_text('{"classes": ["a"]}')
    for name in ('meta.json', 'notes.md', 'none'):
        assert recognise_format(str(tmp_path / name)) is None
    with pytest.raises(ValueError, match=r'0 label files .* all \.json files.*a COCO file'):
        read_boxes(str(tmp_path), image_folder=str(tmp_path))
    (tmp_path / 'meta.json').unlink()
    with pytest.raises(ValueError, match='without VOC XML, YOLO or labelme'):
        read_boxes(str(tmp_path), image_folder='')


VOC = """<annotation>{size}<object><name>cat</name><difficult>{hard}</difficult>
<bndbox><xmin>{x}</xmin><ymin>1</ymin><xmax>20.5</xmax><ymax>40</ymax></bndbox>
<part><name>head</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>4</xmax><ymax>4</ymax></bndbox>
</part></object></annotation>"""


def test_voc_details(tmp_path: Path) -> None:
    path, size = tmp_path / 'a.xml', '<size><width>48</width><height>40</height></size>'
    for x, left in ((1, 0), (0, 0), (3, 2)):  # counted from 1; some programs count from 0
        path.write_text(VOC.format(size=size, hard=1, x=x))
        assert read_labels(str(path)) == (
            (48, 40),
            [{'name': 'cat', 'bbox': [left, 0, 20.5 - left, 40], 'iscrowd': 1}],
        )
    images = write_images(tmp_path)
    path.write_text(VOC.format(size='<size><width>0</width></size>', hard=0, x=1))
    content, notes = read_boxes(str(tmp_path), image_folder=images)
    assert rows(content) == {'a.png': [(48, 40), ('cat', 0, 0, 20.5, 40, 820, 0, [])]}
    assert '1 of 2 images have no .xml file; they are left out' in notes[0]


def yolo(root: Path, **files: str) -> str:
    folder = root / 'labels'
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f'{name}.txt').write_text(text)
    return str(folder)


def test_yolo_images_without_objects(tmp_path: Path) -> None:
    images = write_images(tmp_path)
    cv2.imwrite(f'{images}/c.png', np.zeros((8, 16), np.uint8))
    path = yolo(tmp_path, a='1 0.5 0.5 0.25 0.5\n', b='\n', classes='cat\r\ndog\r\n')
    content, notes = read_boxes(path, image_folder=images, classes=('x', 'y'))
    expected = {'a.png': [(48, 40), ('dog', 18, 10, 12, 20, 240, 0, [])], 'b.png': [(48, 40)]}
    assert rows(content) == {**expected, 'c.png': [(16, 8)]}
    assert '1 of 3 images have no .txt file; they have no objects' in notes[0]


@pytest.mark.parametrize(
    ('files', 'message'),
    [
        ({'a': '0 .5 .5 .1 .1\n0 24 20 10 10'}, r"a\.txt, line 2: '0 24 20 10 10': .*out of range"),
        ({'a': '0 .5 .5 .1 .1 .9'}, r'line 1: .*6 columns'),
        ({'a': '-1 .5 .5 .1 .1'}, 'line 1: .*out of range'),
        ({'a': '7 .5 .5 .1 .1'}, r'a\.txt has class 7, but there are 2 names .*cat, dog'),
        (
            {'z': '0 .5 .5 .1 .1'},
            r'1 label files in .* have no image of the same name.*z\.txt.*data_pre',
        ),
    ],
)
def test_wrong_yolo_files(tmp_path: Path, files: dict[str, str], message: str) -> None:
    images, path = write_images(tmp_path), yolo(tmp_path, b='0 .5 .5 .1 .1', **files)
    with pytest.raises(ValueError, match=message):
        read_boxes(path, image_folder=images, classes=CLASSES)


def test_names_of_yolo_classes(tmp_path: Path) -> None:
    images, path = write_images(tmp_path), yolo(tmp_path, a='0 .5 .5 .1 .1')
    with pytest.raises(ValueError, match=r'Set metainfo\.classes .*put a data\.yaml'):
        read_boxes(path, image_folder=images)
    (tmp_path / 'other.yaml').write_text('names: [wrong, keys]\n')  # of another program
    (tmp_path / 'data.yaml').write_text('nc: 2\nnames: {0: cat, 1: 2}\n')
    content, _ = read_boxes(path, image_folder=images, classes=('dog', 'cat'))
    assert [one['name'] for one in content['categories']] == ['cat', '2']
    (tmp_path / 'data.yaml').write_text('nc: 2\nnames: {1: cat, 2: dog}\n')
    with pytest.raises(ValueError, match=r'data\.yaml: the names have the numbers \[1, 2\]'):
        read_boxes(path, image_folder=images)


def test_labelme_shapes(tmp_path: Path) -> None:
    images, folder = write_images(tmp_path), tmp_path / 'images'
    square = [[2, 2], [6, 2], [6, 6], [2, 6]]
    shapes: list[dict] = [
        {'label': 'cat', 'points': square, 'group_id': 3},
        {'label': 'cat', 'points': [[10, 10], [14, 10], [14, 12]], 'group_id': 3},
        {'label': 'cat', 'points': [[9, 8], [5, 6]], 'shape_type': 'rectangle'},
    ]
    (folder / 'a.json').write_text(json.dumps({'shapes': shapes}))
    content, _ = read_boxes(images, image_folder=images)
    first, second = rows(content)['a.png'][1:]
    assert first[1:6] == (2, 2, 12, 10, 16 + 4)
    assert len(first[-1]) == 2
    assert second[1:] == (5, 6, 4, 2, 8, 0, [])
    shapes[0].update(shape_type='point', points=[[2, 2]])
    (folder / 'a.json').write_text(json.dumps({'shapes': shapes}))
    with pytest.raises(ValueError, match=r"a\.json .*'cat' is a point of 1 points; allowed are"):
        read_boxes(images, image_folder=images)


@pytest.mark.parametrize('name', ['coco', 'voc', 'yolo'])
def test_image_list(tmp_path: Path, name: str) -> None:
    images, path = write_images(tmp_path), FORMATS[name](tmp_path, sound())
    names = tmp_path / 'val.txt'
    for text in ('b\r\n\r\n', 'data\\images\\b.png\n'):
        names.write_text(text)
        content, notes = read_boxes(path, image_folder=images, image_list=str(names))
        assert rows(content).keys() == {'b.png'}
        assert rows(content)['b.png'][1][:5] == ('dog', 20, 8, 28, 32)
        assert notes == []
    names.write_text('b\nc.png\n')
    with pytest.raises(ValueError, match=r'1 .*val\.txt.*c\.png.*image_list'):
        read_boxes(path, image_folder=images, image_list=str(names))


def test_an_image_of_a_list_that_is_not_annotated(tmp_path: Path) -> None:
    images, path = write_images(tmp_path), write_voc(tmp_path, sound())
    os.remove(f'{path}/b.xml')
    (tmp_path / 'all.txt').write_text('a\nb\n')
    with pytest.raises(
        ValueError, match=r'1 names in .*all\.txt are no images of .*have no labels, among them b'
    ):
        read_boxes(path, image_folder=images, image_list=str(tmp_path / 'all.txt'))


def test_cache(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, path = write_images(tmp_path), write_voc(tmp_path, sound())
    counted: list[Any] = []
    convert = folders._convert

    def count(*args: Any) -> Content:
        counted.append(args)
        return convert(*args)

    monkeypatch.setattr(folders, '_convert', count)

    def read(classes: Any = CLASSES) -> Rows:
        return rows(read_boxes(path, image_folder=images, classes=classes)[0])

    first = read()
    assert read() == first
    assert len(counted) == 1
    moved = Path(path, 'a.xml').read_text().replace('<xmin>5<', '<xmin>7<')
    Path(path, 'a.xml').write_text(moved)
    assert read()['a.png'][1][:5] == ('cat', 6, 5, 8, 20)
    cv2.imwrite(f'{images}/a.png', np.zeros((50, 60), np.uint8))
    read()
    read(('dog', 'cat'))
    assert len(counted) == 4, 'label file, image and classes count'
    times, label = Path(path, 'a.xml').stat(), Path(path, 'a.xml')
    label.write_text(moved.replace('<xmin>7<', '<xmin>6<'))
    os.utime(label, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert read()['a.png'][1][1] == 5, 'as long as before, and its time was kept'
    counted.pop()
    for one in cache.rglob('*.json'):
        one.write_text(one.read_text()[:-9])
    read()
    read()
    assert len(counted) == 5, 'a damaged file is replaced'
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    read()
    assert len(counted) == 6
    assert not [one for one in cache.rglob('*') if one.is_file() and one.suffix != '.json']


REPAIRS: dict[str, tuple[Callable[[Content], Any], str]] = {
    'id 0': (lambda c: c['annotations'][0].update(id=0), r'1 annotation ids are 0'),
    'text': (lambda c: c['annotations'][1].update(id='a5'), r'1 annotation ids'),
    'twice': (lambda c: c['annotations'][1].update(id=1), r'used twice; all'),
    'no iscrowd': (lambda c: c['annotations'][0].pop('iscrowd'), r'1 annotations have no iscrowd'),
    'no area': (lambda c: c['annotations'][1].pop('area'), r'1 annotations have no area'),
    'category': (
        lambda c: c['categories'].append({'id': 9, 'name': 'cat'}),
        r"category 9 has the name of another one, 'cat'",
    ),
}


@pytest.mark.parametrize('name', REPAIRS)
def test_repairs(tmp_path: Path, name: str) -> None:
    change, note = REPAIRS[name]
    content = sound()
    change(content)
    path = write(tmp_path, content)
    read, notes = read_boxes(path, image_folder='')
    assert read == sound()
    assert len(notes) == 1
    assert notes[0].startswith(f'{path}: ')
    assert re.search(note, notes[0])


def test_area_of_masks(tmp_path: Path) -> None:
    content, mask = sound(), np.zeros((40, 48), np.uint8, 'F')
    mask[3:10, 4:6] = 1
    runs = coco_mask.encode(mask)
    packed = {'size': [40, 48], 'counts': runs['counts'].decode()}
    plain = {'size': [40, 48], 'counts': [163, 7, 33, 7, 1710]}
    for one, mask_of_one in zip(content['annotations'], (packed, plain), strict=True):
        one.pop('area')
        one['segmentation'] = mask_of_one
    read, _ = read_boxes(write(tmp_path, content), image_folder='')
    assert [one['area'] for one in read['annotations']] == [14, 14]


def test_several_files(tmp_path: Path) -> None:
    """Same ids, other categories: images keep their objects, names keep their meaning."""
    second = sound()
    for image, name in zip(second['images'], ('c.png', 'd.png'), strict=True):
        image['file_name'] = name
    second['categories'] = [{'id': 1, 'name': 'dog'}, {'id': 2, 'name': 'bird'}]
    for one, category in zip(second['annotations'], (1, 2), strict=True):
        one['category_id'] = category
    paths = [write(tmp_path, sound()), write(tmp_path, second, 'second.json')]
    content, _ = read_boxes(paths, image_folder='')
    found = rows(content)
    assert [one['name'] for one in content['categories']] == ['cat', 'dog', 'bird']
    assert [found[f'{one}.png'][1][0] for one in 'abcd'] == ['cat', 'dog', 'dog', 'bird']
    assert found['c.png'][1][1:] == found['a.png'][1][1:]
    for kind in ('images', 'annotations', 'categories'):
        ids = [one['id'] for one in content[kind]]
        assert ids == list(range(1, len(ids) + 1))
    with pytest.raises(ValueError, match=r'image a\.png is in .*train\.json and in .*train\.json'):
        read_boxes([paths[0], write(tmp_path / 'copy', sound())], image_folder='')
    del second['images'][0]['file_name']
    with pytest.raises(ValueError, match=r"second\.json: an entry is malformed: .*'file_name'"):
        read_boxes([paths[0], write(tmp_path, second, 'second.json')], image_folder='')


def test_folders_and_files_together(tmp_path: Path) -> None:
    images, other = write_images(tmp_path), sound()
    other['images'], other['annotations'] = other['images'][1:], other['annotations'][1:]
    paths = [write_voc(tmp_path, sound()), write(tmp_path, other)]
    os.remove(f'{paths[0]}/b.xml')
    content, notes = read_boxes(paths, image_folder=images)
    assert [one[1][:2] for one in rows(content).values()] == [('cat', 4), ('dog', 20)]
    assert len(notes) == 1


def test_images_that_cannot_be_opened_have_no_size(tmp_path: Path) -> None:
    images, path = write_images(tmp_path), write_yolo(tmp_path, sound())
    Path(images, 'a.png').write_bytes(b'')
    content, _ = read_boxes(path, image_folder=images)
    assert rows(content)['a.png'] == [(0, 0)]


def test_yolo_restores_whole_pixels(tmp_path: Path) -> None:
    """At six digits, one pixel of 640 would become 0.99984 and be refused as without area."""
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((480, 640), np.uint8))
    boxes = [[503, 336, 1, 1], [7, 11, 101, 333], [0.5, 0.25, 10.75, 3]]
    shares = [[(x + w / 2) / 640, (y + h / 2) / 480, w / 640, h / 480] for x, y, w, h in boxes]
    text = '\n'.join('0 ' + ' '.join(f'{one:.6f}' for one in line) for line in shares)
    (tmp_path / 'a.txt').write_text(text)
    content, _ = read_boxes(str(tmp_path), image_folder=str(tmp_path), classes=('cell',))
    found = [one['bbox'] for one in content['annotations']]
    assert found[:2] == boxes[:2]
    assert found[2] == pytest.approx(boxes[2], abs=1e-3)
    assert found[2] != boxes[2]
