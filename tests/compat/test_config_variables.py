"""A variable of a config drives what its bases compute; mmseg's own configs stay mmengine's."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from leaves import CONFIGS, DETECTION, LEAVES, SEGMENTATION, name_of
from mmengine.config import Config

from build_support.flatten_configs import load_config as flattened
from vit_dense.apis.config import load_config
from vit_dense.compat import config_variables

# One leaf for each way in which a leaf inherits its data set.
SEGMENTATION_SAMPLE = [
    'vit_upernet_ade20k',
    'vit_upernet_camvid',
    'vit_upernet_custom',
    'vit_upernet_demo',
    'vit_upernet_small',
    'fcn/vit-adapter-b-dinov2-frozen_fcn_8xb2-160k_ade20k-518x518',
    'linear/plain-vit-b-dinov2_linear-ms_8xb2-40k_ade20k-644x644',
    'released/vit-adapter-l-beit_mask2former_8xb2-160k_ade20k-640x640',
    'vit_comer/vit-comer-s-dinov2_upernet_8xb2-160k_ade20k-512x512',
]
DETECTION_SAMPLE = {
    'vit_maskrcnn_coco': 'scale',
    'vit_maskrcnn_custom': 'scale',
    'vit_maskrcnn_demo': 'scale',
    'vit_maskrcnn_small': 'scale',
    'vit_atss_bccd': 'scale',
    'vit_atss_small': 'scale',
    'vit_adapter/vit-adapter-s-deit_dino-4scale_8xb2-12e_coco': 'scale',
    'vit_adapter/vit-adapter-s-deit_retinanet_8xb2-1x_coco': 'scale',
    'vitdet/vitdet-l-mae_cascade-mask-rcnn_8xb8-lsj-100e_coco': 'image_size',
}

SAMPLE = [*SEGMENTATION_SAMPLE, *DETECTION_SAMPLE]
# Leaves that name the number of classes themselves.
MORE = [
    'mask2former/vit-adapter-s-deit_mask2former_8xb2-lsj-50e_coco',
    'vit_adapter/vit-adapter-l-dinov2_mask-rcnn_8xb2-1x_coco',
    'vit_adapter/vit-adapter-s-deit_cascade-mask-rcnn_8xb2-3x_coco',
    'vit_adapter/vit-adapter-s-deit_faster-rcnn_8xb2-1x_coco',
    'vit_comer/vit-comer-s-dinov2_mask-rcnn_8xb2-1x_coco',
]


def child(folder: Path, leaf: str, text: str) -> Path:
    path = folder / 'child.py'
    path.write_text(f"_base_ = 'vit_dense::{leaf}.py'\n{text}\n")
    return path


def read(path: Path) -> Config:
    return Config.fromfile(path, import_custom_modules=False)


def everywhere(value: Any, key: str) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from (one for name, one in value.items() if name == key)
        for one in value.values():
            yield from everywhere(one, key)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from everywhere(one, key)


def numbers(value: Any) -> set[int]:
    """All whole numbers in `value`."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return set().union(*map(numbers, value))
    return {value} if type(value) is int else set()


@pytest.mark.parametrize('leaf', SEGMENTATION_SAMPLE)
def test_crop_size_is_in_one_place(leaf: str, tmp_path: Path) -> None:
    before = read(CONFIGS / f'{leaf}.py')
    config = read(child(tmp_path, leaf, 'crop_size = (704, 736)'))
    option = load_config(f'vit_dense::{leaf}.py', cfg_options={'crop_size': [704, 736]})
    for one in (config, option):
        assert one.model.data_preprocessor.size == one.crop_size == (704, 736)
        assert {*everywhere(one.train_dataloader, 'crop_size')} == {(704, 736)}
        assert one.model.test_cfg.get('crop_size', (704, 736)) == (704, 736)
        if one.model.test_cfg.mode == 'slide':
            assert one.model.test_cfg.stride == (469, 490)
        if 'ade20k' in leaf or 'custom' in leaf:  # the short edge is that of a crop
            assert one.train_dataloader.dataset.pipeline[2].scale[1] == 704
            assert one.test_dataloader.dataset.pipeline[1].scale[1] == 704
            assert one.tta_pipeline[1].transforms[0][2].scale[1] == 704
            places = ('train_pipeline', 'train_dataloader', 'val_dataloader', 'tta_pipeline')
            assert before.crop_size[0] not in numbers([one[name] for name in places])
    assert config.train_dataloader == option.train_dataloader
    assert config.tta_pipeline == option.tta_pipeline
    assert config.model == option.model


@pytest.mark.parametrize(('leaf', 'name'), DETECTION_SAMPLE.items(), ids=DETECTION_SAMPLE)
def test_scale_of_detection_is_in_one_place(leaf: str, name: str, tmp_path: Path) -> None:
    edges = (736, 736) if name == 'image_size' else (740, 540)
    config = read(child(tmp_path, leaf, f'{name} = {edges}'))
    option = load_config(f'vit_dense::{leaf}.py', cfg_options={name: list(edges)})
    demo = {'vit_maskrcnn_demo': (925, 675)}
    for one in (config, option):
        resize = one.test_dataloader.dataset.pipeline[1]
        assert resize.type == 'Resize'
        assert resize.scale == demo.get(leaf, edges)
        assert one.val_dataloader == one.test_dataloader
        assert demo.get(leaf, edges) in [step.scale for step in one.tta_pipeline[1].transforms[0]]
        sizes = [*everywhere(one.train_dataloader, 'scale')]
        sizes += [size for many in everywhere(one.train_dataloader, 'scales') for size in many]
        assert sizes
        assert max(max(size) for size in sizes) == max(edges)
        crops = [*everywhere(one.train_dataloader, 'crop_size')]
        assert all(edge <= max(edges) for crop in crops for edge in crop)
    if name == 'image_size':
        assert config.model.data_preprocessor.pad_size_divisor == 736
        assert {*everywhere(config.train_dataloader, 'crop_size')} == {edges}
    assert config.train_dataloader == option.train_dataloader


KNOWN = {*SAMPLE, *MORE}
OTHERS = [name for name in map(name_of, SEGMENTATION + DETECTION) if name not in KNOWN]


@pytest.mark.parametrize(
    'leaf', [*SAMPLE, *MORE, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
)
def test_folder_and_classes_reach_every_place(leaf: str) -> None:
    options = {'data_root': 'elsewhere', 'num_classes': 7}
    config = load_config(f'vit_dense::{leaf}.py', cfg_options=options)
    assert {*everywhere(config.to_dict(), 'data_root')} == {'elsewhere'}
    found = {*everywhere(config.model, 'num_classes')}
    found |= {*everywhere(config.model, 'num_things_classes')}
    assert found == {7}
    assert all(len(weight) == 8 for weight in everywhere(config.model, 'class_weight'))
    for evaluator in (config.val_evaluator, config.test_evaluator):
        assert evaluator.get('ann_file', 'elsewhere').startswith('elsewhere')


def test_classes_give_their_number(tmp_path: Path) -> None:
    for leaf in ('vit_upernet_small', 'vit_atss_small', 'vit_maskrcnn_small'):
        text = "classes = ('a', 'b', 'c')\npalette = [[0, 0, 0], [1, 1, 1], [2, 2, 2]]"
        config = read(child(tmp_path, leaf, text))
        assert {*everywhere(config.model, 'num_classes')} == {config.num_classes} == {3}
        for split in ('train', 'val', 'test'):
            metainfo = config[f'{split}_dataloader'].dataset.metainfo
            assert metainfo.classes == ('a', 'b', 'c')
            assert metainfo.palette[2] == [2, 2, 2]
    text = "metainfo = dict(classes=('a', 'b'))"
    for leaf in ('vit_upernet_camvid', 'vit_atss_bccd', 'vit_maskrcnn_demo'):
        config = read(child(tmp_path, leaf, text))
        assert {*everywhere(config.model, 'num_classes')} == {2}
        # As mmengine merges dicts, the palette is still there.
        assert config.metainfo.palette == config.train_dataloader.dataset.metainfo.palette
        assert config.train_dataloader.dataset.metainfo.classes == ('a', 'b')


BASE = """
    size = (4, 6)
    names = dict(a=1, b=2)
    total = sum(names.values())
    steps = [dict(type='Crop', size=size), dict(type='Resize', size=(4 * size[0], size[0]))]
    train_dataloader = dict(dataset=dict(steps=steps, names=names))
    """


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose `base.py` counts as a config of this package."""
    base = tmp_path / 'base.py'
    base.write_text(dedent(BASE))
    monkeypatch.setattr(config_variables, 'is_ours', lambda path: path == str(base))
    return tmp_path


def write(path: Path, text: str) -> Config:
    path.write_text(dedent(text))
    config = read(path)
    # The build has an implementation of its own.
    assert repr(flattened(path)) == repr(config.to_dict())
    return config


def test_value_computed_from_the_inherited_one(files: Path) -> None:
    text = """
        _base_ = 'base.py'
        twice = 2 * _base_.size[0]
        size = (twice, 3 * _base_.size[1])
        model = dict(edge=_base_.size[0], size=size, steps=_base_.steps)
        """
    config = write(files / 'child.py', text)
    assert config.size == (8, 18)
    assert config.twice == 8
    assert config.train_dataloader.dataset.steps[0].size == (8, 18)
    assert config.train_dataloader.dataset.steps[1].size == (32, 8)
    # In the file that sets it, `_base_.size` is what it inherits; the rest has the new value.
    assert config.model.edge == 4
    assert config.model.steps[0].size == (8, 18)


def test_several_levels(files: Path) -> None:
    write(files / 'one.py', "_base_ = 'base.py'\nmodel = dict(size=_base_.size)\nnames = dict(c=3)")
    two = write(files / 'two.py', "_base_ = 'one.py'\nsize = (2 * _base_.size[0], 1)")
    assert two.model.size == (8, 1)
    assert two.train_dataloader.dataset.names == {'a': 1, 'b': 2, 'c': 3}
    assert two.total == 6
    text = "_base_ = 'two.py'\nsize = (10 * _base_.size[0], 2)\nnames = dict(_delete_=True, d=9)"
    three = write(files / 'three.py', text)
    assert three.size == three.model.size == three.steps[0].size == (80, 2)
    assert three.names == three.train_dataloader.dataset.names == {'d': 9}
    assert three.total == 9


def test_what_is_computed_from_an_inherited_value_has_the_others(files: Path) -> None:
    text = """
        _base_ = 'base.py'
        size = (8, 9)
        steps = [*_base_.steps, dict(type='Flip')]
        """
    steps = write(files / 'child.py', text).train_dataloader.dataset.steps
    assert [step.type for step in steps] == ['Crop', 'Resize', 'Flip']
    assert [step.get('size') for step in steps] == [(8, 9), (32, 8), None]


def test_base_that_changes_a_part_keeps_the_given_value(files: Path) -> None:
    with (files / 'base.py').open('a') as file:
        file.write("steps[0] = dict(type='Pad')\n")
    text = "_base_ = 'base.py'\nsteps = [dict(type='Flip')]"
    config = write(files / 'child.py', text)
    assert config.train_dataloader.dataset.steps == config.steps == [{'type': 'Flip'}]


def test_several_bases_and_names_of_files(files: Path) -> None:
    (files / 'other.py').write_text("name = '{{ fileBasenameNoExtension }}'\nplain = dict(x=1)\n")
    text = """
        _base_ = ['base.py', 'other.py']
        import math
        size = tuple(math.floor(edge * 1.5) for edge in _base_.size)
        root = '{{ fileDirname }}'
        size_of_base = {{ _base_.size }}
        """
    (files / 'child.py').write_text(dedent(text))
    config = read(files / 'child.py')
    assert config.train_dataloader.dataset.steps[0].size == (6, 9)
    assert config.name == 'other'
    assert config.root == str(files)


def test_dicts_of_other_files_are_merged_only(files: Path) -> None:
    (files / 'mine.py').write_text(
        "_base_ = 'base.py'\nshared = dict(a=1)\nplaces = dict(b=2, **shared)\nwidth = 3\n"
        'edge = width'
    )
    (files / 'child.py').write_text("_base_ = 'mine.py'\nshared = dict(b=5)\nwidth = 4")
    config = read(files / 'child.py')
    assert (config.shared, config.places) == ({'a': 1, 'b': 5}, {'b': 2, 'a': 1})
    assert config.edge == 4


def test_what_the_runner_reads_is_merged_only(files: Path) -> None:
    (files / 'base.py').write_text('work_dir = "a"\nplace = work_dir\nval_cfg = dict(x=1)\n')
    config = write(files / 'child.py', "_base_ = 'base.py'\nwork_dir = 'b'\nval_cfg = dict(y=2)")
    assert (config.work_dir, config.place) == ('b', 'a')
    assert config.val_cfg == {'x': 1, 'y': 2}


def test_dumped_config_reads_back(tmp_path: Path) -> None:
    config = read(child(tmp_path, 'vit_upernet_ade20k', 'crop_size = (640, 640)'))
    config.dump(tmp_path / 'dumped.py')
    assert read(tmp_path / 'dumped.py').to_dict() == config.to_dict()


def test_other_configs_have_the_meaning_of_mmengine(tmp_path: Path) -> None:
    pytest.importorskip('mmseg')
    path = tmp_path / 'child.py'
    path.write_text("_base_ = 'mmseg::_base_/datasets/ade20k.py'\ncrop_size = (64, 64)\n")
    assert read(path).train_pipeline[3].crop_size == (512, 512)
    (tmp_path / 'base.py').write_text(dedent(BASE))
    path.write_text("_base_ = 'base.py'\nsize = (1, 1)\n")
    assert read(path).steps[0].size == (4, 6)
    # Beside a config of ours, it is driven, too.
    path.write_text(
        "_base_ = ['vit_dense::_base_/default_runtime.py', 'mmseg::_base_/datasets/ade20k.py']\n"
        'crop_size = (64, 64)\n'
    )
    assert read(path).train_pipeline[3].crop_size == (64, 64)


def test_values_that_do_not_fit_are_told(tmp_path: Path) -> None:
    path = child(tmp_path, 'vit_upernet_ade20k', 'crop_size = 640')
    with pytest.raises(ValueError, match=r'ade20k\.py cannot be evaluated with crop_size=640: '):
        read(path)
    with pytest.raises(ValueError, match=r'ade20k\.py cannot be evaluated with crop_size=640: '):
        load_config('vit_dense::vit_upernet_ade20k.py', cfg_options={'crop_size': 640})
    with pytest.raises(ValueError, match=r"no 'cropsize'. Did you mean crop_size"):
        load_config('vit_dense::vit_upernet_ade20k.py', cfg_options={'cropsize': 640})


def test_options_change_variables_and_the_rest(tmp_path: Path) -> None:
    path = child(tmp_path, 'vit_upernet_ade20k', 'crop_size = (640, 640)')
    options = {'crop_size': [704, 704], 'train_dataloader.batch_size': 3, 'data_root': 'x'}
    config = load_config(str(path), cfg_options=options, launcher='slurm')
    assert config.train_dataloader.dataset.pipeline[3].crop_size == config.crop_size == (704, 704)
    assert config.train_dataloader.batch_size == 3
    assert config.launcher == 'slurm'
    metainfo = {'classes': ['a', 'b']}
    config = load_config('vit_dense::vit_upernet_camvid.py', cfg_options={'metainfo': metainfo})
    assert config.val_dataloader.dataset.metainfo.classes == ['a', 'b']
    assert len(config.val_dataloader.dataset.metainfo.palette) == 11


def test_variable_of_read_base_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr('vit_dense.apis.config.print_log', lambda text, **_: told.append(text))
    (tmp_path / 'base.py').write_text(dedent(BASE))
    path = tmp_path / 'child.py'
    path.write_text('with read_base():\n    from .base import *\n')
    config = load_config(str(path), cfg_options={'size': (8, 9), 'train_dataloader.x': 3})
    assert (config.size, config.steps[0].size, config.train_dataloader.x) == ((8, 9), (4, 6), 3)
    assert [text.partition(':')[0] for text in told] == ['--cfg-options size']


@pytest.mark.parametrize(
    'leaf', [*SAMPLE, *MORE, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
)
def test_leaf_is_right_without_this_package(leaf: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stock mmengine reads the files that do not name `vit_dense::`."""
    path = CONFIGS / f'{leaf}.py'
    if 'vit_dense::' not in path.read_text():
        expected = read(path).to_dict()
        monkeypatch.setattr(Config, '_file2dict', staticmethod(config_variables._file2dict))
        assert read(path).to_dict() == expected


def test_files_are_evaluated_a_few_times_only(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = config_variables._file2dict
    evaluated = []

    def count(path: str, *args: object, **kwargs: object) -> tuple:
        evaluated.append(path)
        return plain(path, *args, **kwargs)

    monkeypatch.setattr(config_variables, '_file2dict', count)
    numbers = []
    for name in ('vit_upernet_ade20k', 'vit_upernet_custom', 'few_shot/'):
        evaluated.clear()
        read(next(path for path in LEAVES if name in path.as_posix()))
        numbers.append(max(Counter(evaluated).values()))
    assert numbers[0] == 1
    assert max(numbers) <= 4, numbers
