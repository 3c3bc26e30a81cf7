"""`init_config` writes short configs that load, build their data sets and train."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image

from vit_dense.apis import load_config, train_model
from vit_dense.apis.init_config import init_config

SIZE = (64, 96)  # rows, columns


def seg_folder(root: Path, count: int = 6, classes: int = 2, high: int = 1) -> str:
    """Writes images and masks; the mask of class c has the value `high` * c."""
    for kind in ('images', 'masks'):
        (root / kind).mkdir(parents=True)
    for n in range(count):
        values = np.random.default_rng(n).integers(0, classes, SIZE)
        picture = np.repeat((values * (255 // classes))[..., None], 3, axis=2).astype(np.uint8)
        Image.fromarray(picture).save(root / f'images/{n}.jpg')
        Image.fromarray((values * high).astype(np.uint8)).save(root / f'masks/{n}.png')
    return str(root)


def yolo_folder(root: Path) -> str:
    """Writes images in two splits with a box in each."""
    for split in ('train', 'val'):
        for kind in ('images', 'labels'):
            (root / kind / split).mkdir(parents=True)
        for n in range(4):
            Image.new('RGB', SIZE[::-1]).save(root / f'images/{split}/{n}.png')
            (root / f'labels/{split}/{n}.txt').write_text(f'{n % 2} 0.5 0.5 0.5 0.5\n')
    (root / 'data.yaml').write_text('train: images/train\nnames: {0: bolt, 1: nut}\n')
    return str(root)


def datasets(config: Any) -> list[Any]:
    init_default_scope(config.default_scope)
    return [DATASETS.build(config[f'{split}_dataloader'].dataset) for split in ('train', 'val')]


def test_config_of_masks_loads_and_finds_the_data(tmp_path: Path) -> None:
    out = tmp_path / 'config.py'
    rows = dict(init_config(seg_folder(tmp_path / 'data', high=255), str(out)))
    assert rows['masks'] == 'black and white: 0 and 255'
    assert rows['2 classes'] == 'background, foreground'
    config = load_config(str(out))
    train, val = datasets(config)
    assert (len(train), len(val)) == (5, 1)
    names = (tmp_path / 'config_train.txt').read_text().split()
    assert names == [Path(train.get_data_info(n)['img_path']).name for n in range(5)]
    found = val[0]['data_samples'].gt_sem_seg.data.unique().tolist()
    assert found == [0, 1]
    assert config.model.decode_head.num_classes == 2
    assert config.crop_size == (224, 224)  # small images are enlarged
    sheet = np.asarray(Image.open(tmp_path / 'config_contact_sheet.png'))
    assert sheet.shape[0] > SIZE[0]


def test_names_with_commas_and_spaces_are_found_again(tmp_path: Path) -> None:
    root = Path(seg_folder(tmp_path / 'data'))
    for kind in ('images', 'masks'):
        (root / kind / 'x/a b').mkdir(parents=True)
        for path in sorted((root / kind).glob('[0-2].*')):
            path.rename(root / kind / f'x/a b/{path.stem}, new{path.suffix}')
    init_config(str(root), str(out := tmp_path / 'config.py'))
    train, val = datasets(load_config(str(out)))
    assert (len(train), len(val)) == (5, 1)


def test_images_without_masks_are_counted(tmp_path: Path) -> None:
    root = Path(seg_folder(tmp_path / 'data'))
    (root / 'masks/3.png').unlink()
    rows = init_config(str(root), str(tmp_path / 'config.py'))
    assert ('left out', '1 files without labels in images') in rows
    train, val = datasets(load_config(str(tmp_path / 'config.py')))
    assert len(train) + len(val) == 5
    assert train.metainfo['palette'][0] == [0, 0, 0]  # background
    assert len({*map(tuple, train.metainfo['palette'])}) == 2


def test_config_of_boxes_loads_and_finds_the_data(tmp_path: Path) -> None:
    out = tmp_path / 'config.py'
    init_config(yolo_folder(tmp_path / 'data'), str(out))
    config = load_config(str(out))
    train, val = datasets(config)
    assert (len(train), len(val)) == (4, 4)
    assert val.metainfo['classes'] == ('bolt', 'nut')
    (box,) = val[1]['data_samples'].gt_instances.bboxes.tensor.tolist()
    assert box == [24, 16, 72, 48]
    assert config.model.bbox_head.num_classes == 2


@pytest.mark.parametrize(('count', 'wrapped'), [(2, ''), (11, 'cp'), (45, 'c'), (150, '')])
def test_configs_have_40_lines_of_plain_python(count: int, wrapped: str, tmp_path: Path) -> None:
    """Long lists are wrapped; then the palette is left out; then lists stay in one line."""
    out = tmp_path / 'config.py'
    names = [f'the class {n}' for n in range(count)]
    data = seg_folder(tmp_path / 'data', count=2, classes=count)
    table = '\n'.join(f'{n} {name}, the second word, {n} 20 130' for n, name in enumerate(names))
    (tmp_path / 'data/classes.txt').write_text(table)
    init_config(data, str(out))
    lines = out.read_text().splitlines()
    assert len(lines) <= 40
    assert ('classes = (' in lines, 'palette = [' in lines) == ('c' in wrapped, 'p' in wrapped)
    long = [one for one in lines if len(one) > 100 and str(tmp_path) not in one]
    assert len(long) == (count == 150)
    info = load_config(str(out)).train_dataloader.dataset.metainfo
    assert list(info.classes) == [f'{name} the second word' for name in names]
    if count < 45:
        assert info.palette == [[n, 20, 130] for n in range(count)]


def test_colours_become_the_palette_and_what_has_no_class_is_ignored(tmp_path: Path) -> None:
    root = tmp_path / 'data'
    data = seg_folder(root, classes=3)
    colours = np.array([[250, 0, 0], [0, 250, 0], [1, 2, 3]], np.uint8)
    for path in (root / 'masks').iterdir():
        Image.fromarray(colours[np.asarray(Image.open(path))]).save(path)
    (root / 'classes.txt').write_text('fire 250 0 0\ngrass 0 250 0\n')
    rows = init_config(data, str(tmp_path / 'config.py'))
    assert (
        'not decided',
        'the classes of the colours [(1, 2, 3)]: ignored: --classes FILE',
    ) in rows
    train, _ = datasets(load_config(str(tmp_path / 'config.py')))
    assert train.metainfo['palette'] == [[250, 0, 0], [0, 250, 0]]
    assert train[0]['data_samples'].gt_sem_seg.data.unique().tolist() == [0, 1, 255]


def test_bands_are_loaded_and_normalised_by_their_own_statistics(tmp_path: Path) -> None:
    data = seg_folder(tmp_path / 'data')
    for path in (tmp_path / 'data/images').iterdir():
        values = np.full((*SIZE, 5), 2000, np.uint16)
        values[:8] = 4000
        np.save(path.with_suffix('.npy'), values)
        path.unlink()
    init_config(data, str(tmp_path / 'config.py'))
    config = load_config(str(tmp_path / 'config.py'))
    assert config.model.backbone.vit.model_kwargs.in_chans == 5
    assert config.mean == pytest.approx([2250 * 255 / 4095] * 5, abs=0.01)
    _, val = datasets(config)
    inputs = val[0]['inputs']
    assert inputs.shape[0] == 5
    assert float(inputs.max()) == pytest.approx(4000 * 255 / 4095, abs=1)


def test_three_deep_bands_reach_the_model_as_rgb(tmp_path: Path) -> None:
    data = seg_folder(tmp_path / 'data')
    for path in (tmp_path / 'data/images').iterdir():
        np.save(path.with_suffix('.npy'), np.full((*SIZE, 3), (1000, 2000, 3000), np.uint16))
        path.unlink()
    init_config(data, str(tmp_path / 'config.py'))
    config = load_config(str(tmp_path / 'config.py'))
    _, val = datasets(config)
    channels = val[0]['inputs'].flip(0) if config.model.data_preprocessor.bgr_to_rgb else None
    assert channels is not None
    expected = np.array([1000, 2000, 3000]) * 255 / 4095
    assert np.allclose(channels.amax((1, 2)), expected, atol=0.01)
    assert np.allclose(config.model.data_preprocessor.mean, expected, atol=0.01)


@pytest.mark.parametrize('name', ['config.py', 'config_val.txt', 'config_contact_sheet.png'])
def test_existing_files_are_kept(name: str, tmp_path: Path) -> None:
    out = tmp_path / 'config.py'
    (tmp_path / name).write_text('mine')
    with pytest.raises(ValueError, match=rf'{name} exists: give another --out, or --force'):
        init_config(str(tmp_path), str(out))
    assert (tmp_path / name).read_text() == 'mine'
    init_config(seg_folder(tmp_path / 'data'), str(out), force=True)
    assert 'vit_upernet_small' in out.read_text()


def test_written_config_trains(tmp_path: Path) -> None:
    out = tmp_path / 'config.py'
    init_config(seg_folder(tmp_path / 'data', count=5), str(out))
    text = out.read_text()
    for name in ('model_name', 'max_epochs', 'val_interval', 'batch_size', 'crop_size', 'scale'):
        text = re.sub(f'^{name} = .*$', '', text, flags=re.MULTILINE)
    text += (
        'max_epochs = val_interval = 1\nbatch_size = 2\ncrop_size = (64, 64)\nscale = (96, 64)\n'
    )
    text += "model_name = 'test_vit'\nwidth = 64\n"
    text += 'model = dict(backbone=dict(vit=dict(pretrained=False)))\n'
    loader = 'dict(num_workers=0, persistent_workers=False)'
    out.write_text(f'{text}train_dataloader = {loader}\nval_dataloader = {loader}\n')
    config = load_config(str(out), work_dir=str(tmp_path / 'work'))
    assert config.train_cfg.max_epochs == 1
    train_model(config)
    assert list((tmp_path / 'work').glob('epoch_1.pth'))
