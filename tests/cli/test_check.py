"""`vit-dense check` on tiny data of both tasks: findings, exit codes, and the page."""

import sys
from collections.abc import Callable
from pathlib import Path

import coco_files
import cv2
import numpy as np
import pytest
from PIL import Image

from vit_dense.cli.check import main

SEGMENTATION = """
custom_imports = dict(imports=['vit_dense.segmentation'], allow_failed_imports=False)
default_scope = 'mmseg'
model = dict(data_preprocessor=dict(mean=[120.0] * 3, std=[60.0] * 3, bgr_to_rgb=True))
pipeline = [dict(type=name) for name in ('LoadImageFromFile', 'LoadAnnotations', 'PackSegInputs')]
part = dict(
    type='CheckedSegDataset', data_root='{root}', pipeline=pipeline,
    metainfo=dict(classes=('road', 'car'), palette=[[0, 0, 255], [255, 0, 0]]),
)
train_dataloader = dict(dataset=dict(type='RepeatDataset', times=2, dataset=dict(
    data_prefix=dict(img_path='images/train', seg_map_path='masks/train'), **part)))
val_dataloader = dict(dataset=dict(
    data_prefix=dict(img_path='images/val', seg_map_path='masks/val'), **part))
test_dataloader = val_dataloader
"""
DETECTION = """
custom_imports = dict(imports=['vit_dense.detection'], allow_failed_imports=False)
default_scope = 'mmdet'
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomChoice', transforms=[[dict(type='Resize', scale=(96, 80), keep_ratio=True)]]),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(
    type='{kind}', data_root='{root}', ann_file='annotations/train.json',
    data_prefix=dict(img='images'), metainfo=dict(classes=('cat', 'dog')), pipeline=pipeline,
))
"""


def write_masks(root: Path) -> Path:
    """Writes three pairs for training and two for validation, and returns the config."""
    rng = np.random.default_rng(0)
    for number in range(5):
        name = f'{"train" if number < 3 else "val"}/{number}'
        for folder in ('images', 'masks'):
            (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
        cells = rng.integers(0, 256, (6, 8, 3), np.uint8)
        cv2.imwrite(str(root / 'images' / f'{name}.jpg'), cv2.resize(cells, (64, 48)))
        mask = np.zeros((48, 64), np.uint8)
        mask[:, 20:] = 1
        Image.fromarray(mask).save(root / 'masks' / f'{name}.png')
    (root / 'cfg.py').write_text(SEGMENTATION.replace('{root}', str(root)))
    return root / 'cfg.py'


def write_boxes(root: Path, kind: str = 'CheckedCocoDataset') -> Path:
    """Writes the two images of `coco_files`, and returns the config."""
    coco_files.write_images(root)
    coco_files.write(root, coco_files.sound())
    (root / 'cfg.py').write_text(DETECTION.replace('{root}', str(root)).replace('{kind}', kind))
    return root / 'cfg.py'


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Returns a function that runs the command in this process."""

    def run(*args: object) -> int:
        monkeypatch.setattr(sys, 'argv', ['vit-dense check', *map(str, args)])
        return main()

    return run


def test_sound_masks(
    tmp_path: Path, check: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_masks(tmp_path)
    assert check(config, '--out', tmp_path / 'out', '--workers', 1) == 0
    printed = capsys.readouterr().out
    assert 'errors: 0, warnings: 0, notes: 0' in printed
    rows = [line.split() for line in printed.splitlines()]
    assert [row[:5] for row in rows if row[:1] in (['train'], ['val'])] == [
        ['train', '3', '3', '64x48', 'px'],
        ['val', '2', '2', '64x48', 'px'],  # test has the same files
    ]
    assert ['car', '68.75', '%', '3', '68.75', '%', '2'] in rows
    page = (tmp_path / 'out/index.html').read_text()
    assert 'data:image/png;base64,' in page
    assert '<td style="--share: 68.75%">68.75 %</td>' in page
    assert cv2.imread(str(tmp_path / 'out/sheet.png')) is not None


def test_means_are_in_the_order_of_the_preprocessor(
    tmp_path: Path, check: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_masks(tmp_path)
    for number in range(3):
        path = str(tmp_path / f'images/train/{number}.png')
        Image.new('RGB', (64, 48), (200, 100, number)).save(path)
        Path(path).with_suffix('.jpg').unlink()
    assert check(config, '--split', 'train') == 0
    assert '[200.0, 100.0, 1.0]' in capsys.readouterr().out


def test_every_fault_of_masks_is_reported_at_once(
    tmp_path: Path, check: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_masks(tmp_path)
    images, masks = tmp_path / 'images', tmp_path / 'masks'
    (images / 'train/0.jpg').write_bytes(b'')
    (masks / 'val/3.png').unlink()
    Image.fromarray(np.full((64, 48), 9, np.uint8)).save(masks / 'train/1.png')
    Image.new('L', (64, 48)).save(masks / 'train/alone.png')
    (images / 'val/4.jpg').write_bytes((images / 'train/2.jpg').read_bytes())
    assert check(config, '--out', tmp_path / 'out') == 1
    printed = capsys.readouterr().out
    for line in (
        'error, train: files cannot be loaded: 1',
        'error, train: images and their labels differ in size: 1',
        'error, train: masks hold values that are no class: 1',
        'error, val: images have no mask: 1',
        'error, val: images are copies of images of train: 1',
        'warning, train: masks have no image: 1',
        'errors: 5, warnings: 1, notes: 0',
    ):
        assert line in printed.splitlines()
    assert 'images and their labels differ in size' in (tmp_path / 'out/index.html').read_text()


def test_validation_on_the_training_data_is_a_leak(
    tmp_path: Path, check: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_masks(tmp_path)
    config.write_text(config.read_text().replace("/val'", "/train'"))
    assert check(config) == 1
    assert 'error, val: images are copies of images of train: 3' in capsys.readouterr().out


def test_values_and_colours_that_the_config_maps(
    tmp_path: Path, check: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_masks(tmp_path)
    for path in tmp_path.glob('masks/*/*.png'):
        values = np.asarray(Image.open(path)) * np.uint8(255)
        colours = np.stack([values, values, np.full_like(values, 7)], axis=2)
        Image.fromarray(values if path.parent.name == 'train' else colours).save(path)
    text = config.read_text()
    assert check(config) == 1
    config.write_text(
        f'{text}\ntrain_dataloader["dataset"]["dataset"]["label_map"] = {{0: 0, 255: 1}}\n'
        'val_dataloader["dataset"]["colours"] = [[0, 0, 7], [255, 255, 7]]\n'
    )
    capsys.readouterr()
    assert check(config, '--out', tmp_path / 'out') == 0
    assert '68.75 %' in capsys.readouterr().out


@pytest.mark.parametrize('kind', ['CheckedCocoDataset', 'CocoDataset'])
def test_sound_boxes(
    kind: str, tmp_path: Path, check: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_boxes(tmp_path, kind)
    assert check(config, '--out', tmp_path / 'out') == 0
    printed = capsys.readouterr().out
    assert 'errors: 0, warnings: 0, notes: 0' in printed
    assert any(
        line.split()[:5] == ['train', '2', '2/0/0', '48x40', 'px'] for line in printed.splitlines()
    )
    assert (tmp_path / 'out/index.html').is_file()


def test_faults_of_boxes(
    tmp_path: Path, check: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_boxes(tmp_path)
    content = coco_files.sound()
    content['images'].append({'id': 3, 'file_name': 'gone.png', 'width': 48, 'height': 40})
    content['annotations'][0]['bbox'] = [40, 5, 30, 20]
    content['annotations'].append({**content['annotations'][1], 'id': 8})
    content['annotations'].append({**content['annotations'][1], 'id': 9, 'bbox': [4, 5, 0, 9]})
    coco_files.write(tmp_path, content)
    assert check(config) == 1
    printed = capsys.readouterr().out.splitlines()
    for line in (
        'error, train: files cannot be loaded: 1',
        'error, train: boxes are outside their image: 1',
        f'    {tmp_path}/images/a.png  annotation 1, bbox=[40, 5, 30, 20]',
        'error, train: boxes are without area: 1',
        'warning, train: boxes are given more than once: 1',
        f'    {tmp_path}/images/b.png  annotation 8, bbox=[20, 8, 28, 32]',
        'note, train: images have no object: 1',
    ):
        assert line in printed
    config.write_text(config.read_text() + 'train_dataloader["dataset"]["bad_boxes"] = "skip"')
    check(config)
    assert 'warning, train: boxes are without area: 1' in capsys.readouterr().out


@pytest.mark.parametrize('kind', ['CheckedCocoDataset', 'CocoDataset'])
def test_annotations_that_cannot_be_listed(
    kind: str, tmp_path: Path, check: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_boxes(tmp_path, kind)
    content = coco_files.sound()
    content['annotations'][0]['image_id'] = 9
    coco_files.write(tmp_path, content)
    assert check(config) == 1
    printed = capsys.readouterr().out
    assert f'error, train: data sets are refused by {kind}: 1' in printed
    assert 'annotation 1 belongs to image 9, which the file does not list' in printed


def test_what_the_data_set_refuses_is_an_error(
    tmp_path: Path, check: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_boxes(tmp_path)
    content = coco_files.sound()
    content['categories'][0]['name'] = 'horse'
    coco_files.write(tmp_path, content)
    assert check(config) == 1
    printed = capsys.readouterr().out
    assert 'error, train: data sets are refused by CheckedCocoDataset: 1' in printed
    assert 'horse' in printed


def test_other_data_sets_are_named(
    tmp_path: Path, check: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'cfg.py').write_text(
        DETECTION.replace('{root}', str(tmp_path))
        .replace('{kind}', 'OpenImagesDataset')
        .replace("ann_file='", "label_file='', meta_file='', hierarchy_file='', ann_file='")
    )
    check(tmp_path / 'cfg.py')
    printed = capsys.readouterr().out
    assert 'warning, train: files of OpenImagesDataset are not checked: 1' in printed
    assert 'Use CheckedCocoDataset' in printed


def test_images_without_labels_have_no_table_of_classes(
    tmp_path: Path, check: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    write_masks(tmp_path)
    steps = "[dict(type='LoadImageFromFile'), dict(type='PackImage')]"
    data = f"dict(type='UnlabelledImages', data_root='{tmp_path}/images/train', pipeline={steps})"
    imports = "custom_imports = dict(imports=['vit_dense.pretraining'])"
    (tmp_path / 'cfg.py').write_text(f'{imports}\ntrain_dataloader = dict(dataset={data})')
    assert check(tmp_path / 'cfg.py', '--out', str(tmp_path / 'page')) == 0
    printed = capsys.readouterr().out
    assert printed.startswith('split')
    assert 'class ' not in printed
    assert 'Classes' not in (tmp_path / 'page/index.html').read_text()


def test_missing_folder(
    tmp_path: Path, check: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_masks(tmp_path)
    (tmp_path / 'images/val').rename(tmp_path / 'elsewhere')
    assert check(config) == 1
    assert f'the folder {tmp_path}/images/val does not exist' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('args', 'message'),
    [(['gone.py'], 'Config not found'), (['cfg.py', '--split', 'val'], '--split val')],
)
def test_usage_mistakes(
    args: list[str], message: str, tmp_path: Path, check: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    write_boxes(tmp_path)
    assert check(tmp_path / args[0], *args[1:]) == 2
    assert message in capsys.readouterr().err


def test_unknown_split(check: Callable[..., int]) -> None:
    with pytest.raises(SystemExit) as caught:
        check('cfg.py', '--split', 'all')
    assert caught.value.code == 2
