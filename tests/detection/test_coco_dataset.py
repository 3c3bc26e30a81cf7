"""The checked COCO data set: what it accepts, and that every check of the file is asked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from coco_files import sound, write, write_voc, write_yolo
from mmengine.config import Config
from mmengine.logging import MMLogger

from examples.streets import THING_CLASSES, THING_PALETTE, DemoSpec, write_demo_dataset

Make = Callable[..., dict[str, Any]]
Build = Callable[[dict[str, Any]], Any]
CONFIGS = Path(__file__).parents[2] / 'configs'


def test_a_sound_file_loads(dataset_config: Make, build: Build) -> None:
    dataset = build(dataset_config())
    assert len(dataset) == 2
    sample = dataset[1]
    assert sample['inputs'].shape == (3, 40, 48)
    truth = sample['data_samples'].gt_instances
    assert truth.labels.tolist() == [1]
    assert truth.bboxes.tensor.tolist() == [[20, 8, 48, 40]]
    assert truth.masks.to_ndarray().sum() == 28 * 32


def test_same_samples_as_mmdets_own_class(dataset_config: Make, build: Build) -> None:
    ours = build(dataset_config())
    theirs = build(dataset_config(type='CocoDataset'))
    assert ours.cat_ids == theirs.cat_ids == [3, 7]
    assert ours.cat_img_map == theirs.cat_img_map
    for index in range(2):
        assert ours.get_data_info(index) == theirs.get_data_info(index)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'ann_file': 'annotations/val.json'}, r'val\.json does not exist'),
        ({'metainfo': {'classes': ('cat', 'cow')}}, "no category 'cow'"),
        ({'metainfo': {'classes': ('dog', 'cat')}}, 'another order'),
        ({'metainfo': {'classes': ('cat',)}}, "other_categories='ignore'"),
        ({'metainfo': {'classes': 'cat'}}, 'with the comma'),
        ({'data_prefix': {'img': 'pictures'}}, '2 of the 2 images'),
        ({'bad_boxes': 'drop'}, "bad_boxes='drop': allowed are 'error', 'skip'"),
        ({'other_categories': 'skip'}, "allowed are 'error', 'ignore'"),
    ],
)
def test_mistakes(dataset_config: Make, build: Build, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(dataset_config(**changes))


@pytest.mark.parametrize('name', ['voc', 'yolo', 'several'])
def test_other_formats_give_the_same_samples(
    dataset_config: Make, build: Build, data_root: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', str(data_root / 'cache'))
    second = {**sound(), 'images': [], 'annotations': []}
    source = {
        'voc': lambda: Path(write_voc(data_root, sound())).name,
        'yolo': lambda: Path(write_yolo(data_root, sound(), polygons=True)).name,
        'several': lambda: ['annotations/train.json', write(data_root, second, 'second.json')],
    }[name]()
    pipeline = dataset_config()['pipeline']
    pipeline[1]['with_mask'] = name != 'voc'
    native = build(dataset_config(pipeline=pipeline))
    dataset = build(dataset_config(ann_file=source, pipeline=pipeline))
    assert len(dataset) == len(native) == 2
    for one, other in zip(dataset, native, strict=True):
        one, other = one['data_samples'].gt_instances, other['data_samples'].gt_instances
        assert one.labels.tolist() == other.labels.tolist()
        error = (one.bboxes.tensor - other.bboxes.tensor).abs().max()
        assert error < 1e-3
        if name != 'voc':
            assert (one.masks.to_ndarray() == other.masks.to_ndarray()).all()


def test_list_of_images(dataset_config: Make, build: Build, data_root: Path) -> None:
    (data_root / 'names.txt').write_text('b.png\n')
    dataset = build(dataset_config(image_list='names.txt'))
    assert [Path(one['img_path']).name for one in map(dataset.get_data_info, range(1))] == ['b.png']
    with pytest.raises(ValueError, match=r'absent\.txt cannot be read'):
        build(dataset_config(image_list='absent.txt'))


def test_repairs_are_logged_once(
    dataset_config: Make, build: Build, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = sound()
    content['annotations'][0]['id'] = 0
    write(data_root, content)
    told: list[str] = []
    logger = MMLogger.get_current_instance()
    monkeypatch.setattr(logger, 'warning', told.append)
    for _ in range(2):
        dataset = build(dataset_config())
    assert len(told) == 1
    assert '1 annotation ids are 0' in told[0]
    assert len(dataset) == 2


def test_damaged_images(dataset_config: Make, build: Build, data_root: Path) -> None:
    (data_root / 'images/a.png').write_bytes(b'')
    with pytest.raises(ValueError, match=r'a\.png: the file is empty'):
        build(dataset_config())
    dataset = build(dataset_config(bad_files='skip'))
    samples = [dataset[index]['data_samples'].img_id for index in range(2)]
    assert samples == [2, 2]
    with pytest.raises(ValueError, match=r'a\.png: the file is empty'):
        build(dataset_config(bad_files='skip', test_mode=True))


def test_ignored_categories_need_no_masks(
    dataset_config: Make, build: Build, data_root: Path
) -> None:
    content = sound()
    content['categories'].append({'id': 8, 'name': 'crowd'})
    box = {'bbox': [1, 1, 5, 5], 'area': 25, 'iscrowd': 0}
    content['annotations'].append({'id': 3, 'image_id': 1, 'category_id': 8, **box})
    write(data_root, content)
    dataset = build(dataset_config(other_categories='ignore'))
    assert dataset[0]['data_samples'].gt_instances.labels.tolist() == [0]


def test_coco_itself_says_where_it_comes_from(dataset_config: Make, build: Build) -> None:
    config = dataset_config(metainfo=None, data_root='data/nowhere')
    with pytest.raises(ValueError, match=r'cocodataset\.org'):
        build(config)
    with pytest.raises(ValueError, match='does not exist') as error:
        build(dataset_config(data_root='data/nowhere'))
    assert 'cocodataset' not in str(error.value)


def test_classes_may_stand_in_a_file(dataset_config: Make, build: Build, data_root: Path) -> None:
    names = data_root / 'names.txt'
    names.write_text('cat\ndog\n')
    assert len(build(dataset_config(metainfo={'classes': str(names)}))) == 2


def test_bad_boxes_are_an_error_or_left_out(
    dataset_config: Make, build: Build, data_root: Path
) -> None:
    content = sound()
    content['annotations'][0]['bbox'] = [100, 100, 10, 10]
    write(data_root, content)
    with pytest.raises(ValueError, match='outside their image: annotation 1'):
        build(dataset_config())
    dataset = build(dataset_config(bad_boxes='skip'))
    assert dataset.get_data_info(0)['instances'] == []


def test_masks_are_asked_for_only_where_they_are_loaded(
    dataset_config: Make, build: Build, data_root: Path
) -> None:
    content = sound()
    del content['annotations'][1]['segmentation']
    write(data_root, content)
    with pytest.raises(ValueError, match='1 of 2 annotations'):
        build(dataset_config())
    pipeline = dataset_config()['pipeline']
    pipeline[1]['with_mask'] = False
    assert len(build(dataset_config(pipeline=pipeline))) == 2


def test_a_subset_of_the_categories(dataset_config: Make, build: Build) -> None:
    dataset = build(dataset_config(metainfo={'classes': ('dog',)}, other_categories='ignore'))
    assert len(dataset) == 1
    assert dataset[0]['data_samples'].gt_instances.labels.tolist() == [0]


def test_images_without_annotations_can_be_tested(
    dataset_config: Make, build: Build, data_root: Path
) -> None:
    content = sound()
    del content['annotations']
    write(data_root, content)
    pipeline = [{'type': 'LoadImageFromFile'}, {'type': 'PackDetInputs'}]
    assert len(build(dataset_config(pipeline=pipeline, test_mode=True))) == 2


def test_the_demo_config_reads_the_drawn_streets(
    tmp_path: Path, dataset_config: Make, build: Build
) -> None:
    root = write_demo_dataset(tmp_path / 'demo', DemoSpec(2, 1))
    config = Config.fromfile(CONFIGS / 'vit_maskrcnn_demo.py')
    changes = {'data_root': str(root), 'pipeline': dataset_config()['pipeline']}
    dataset = build(config.train_dataloader.dataset | changes)
    assert len(dataset) == 2
    assert dataset.metainfo['classes'] == THING_CLASSES
    assert dataset.metainfo['palette'] == list(THING_PALETTE)
    assert len(dataset[0]['data_samples'].gt_instances) > 0


def test_missing_demo_data_name_the_command_that_writes_them(tmp_path: Path, build: Build) -> None:
    config = Config.fromfile(CONFIGS / 'vit_maskrcnn_demo.py')
    missing = config.val_dataloader.dataset | {'data_root': str(tmp_path / 'demo')}
    with pytest.raises(ValueError, match=r'make demo-det.*python -m examples\.streets --out'):
        build(missing)


def test_nothing_left_to_train_on(dataset_config: Make, build: Build) -> None:
    with pytest.raises(ValueError, match=r'none of its 2 images passes.*2 have a side under 64 px'):
        build(dataset_config(filter_cfg={'min_size': 64}))
