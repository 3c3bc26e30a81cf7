"""Transforms that leave image, mask and prediction with different pixels are named."""

from pathlib import Path
from typing import Any

import mmseg
import pytest
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope

from vit_dense.segmentation.pipeline_checks import added_labels, check_geometry

LOAD: dict[str, Any] = {'type': 'LoadImageFromFile'}
MASK: dict[str, Any] = {'type': 'LoadAnnotations'}
PACK: dict[str, Any] = {'type': 'PackSegInputs'}
RESIZE: dict[str, Any] = {'type': 'Resize', 'scale': (64, 48), 'keep_ratio': True}
PAD: dict[str, Any] = {'type': 'Pad', 'size': (64, 64)}
CROP: dict[str, Any] = {'type': 'RandomCrop', 'crop_size': (32, 32)}
ROTATE: dict[str, Any] = {'type': 'RandomRotate', 'prob': 0.5, 'degree': 10}
FLIP: dict[str, Any] = {'type': 'RandomFlip', 'prob': 0.5}
NO_FLIP: dict[str, Any] = {'type': 'RandomFlip', 'prob': 0.0}
SOMETIMES: dict[str, Any] = {'type': 'RandomApply', 'transforms': [CROP], 'prob': 0.5}
EVALUATIONS = ['validation', 'test']
FOLDER = Path(mmseg.__file__).parent / '.mim/configs/_base_/datasets'
# These need albumentations or GDAL.
OTHERS = {'nyu', 'nyu_512x512', 'levir_256x256'}
PATHS = sorted(path for path in FOLDER.glob('*.py') if path.stem not in OTHERS)


@pytest.fixture(autouse=True)
def _scope() -> None:
    init_default_scope('mmseg')


def views(*lists: list[dict[str, Any]]) -> dict[str, Any]:
    return {'type': 'TestTimeAug', 'transforms': list(lists)}


@pytest.mark.parametrize('split', EVALUATIONS)
@pytest.mark.parametrize(
    ('steps', 'name'),
    [
        ([LOAD, RESIZE, PAD, MASK, PACK], 'has Pad'),
        ([LOAD, MASK, PAD, PACK], 'has Pad'),
        ([LOAD, {'type': 'CenterCrop', 'crop_size': (32, 32)}, MASK, PACK], 'has CenterCrop'),
        ([LOAD, CROP, MASK, PACK], 'has RandomCrop'),
        ([LOAD, SOMETIMES, MASK, PACK], 'has RandomCrop'),
        ([LOAD, ROTATE, MASK, PACK], 'has RandomRotate'),
        ([LOAD, PAD, PACK], 'has Pad'),
        ([LOAD, views([RESIZE], [PAD], [MASK], [PACK])], 'has Pad'),
        ([LOAD, views([RESIZE, PAD], [MASK], [PACK])], 'has Pad'),
        ([LOAD, MASK, RESIZE, PACK], 'Resize after LoadAnnotations.*Put Resize before'),
        ([LOAD, MASK, FLIP, PACK], 'RandomFlip after LoadAnnotations'),
        ([LOAD, views([MASK], [RESIZE], [PACK])], 'Resize after LoadAnnotations'),
    ],
)
def test_evaluation(split: str, steps: list[dict[str, Any]], name: str) -> None:
    with pytest.raises(ValueError, match=f'The {split} pipeline has {name.removeprefix("has ")}'):
        check_geometry(Compose(steps), split)


@pytest.mark.parametrize('step', [RESIZE, FLIP, CROP, PAD, SOMETIMES])
def test_training(step: dict[str, Any]) -> None:
    check_geometry(Compose([LOAD, MASK, step, PACK]), 'training')
    with pytest.raises(ValueError, match=r'training pipeline has .* before LoadAnnotations, so'):
        check_geometry(Compose([LOAD, step, MASK, PACK]), 'training')


@pytest.mark.parametrize(
    'steps',
    [
        [LOAD, RESIZE, MASK, PACK],
        [LOAD, RESIZE, FLIP, MASK, PACK],
        [LOAD, MASK, NO_FLIP, PACK],
        [LOAD, MASK, {'type': 'PhotoMetricDistortion'}, PACK],
        [LOAD, views([RESIZE, {**RESIZE, 'scale': (96, 72)}], [NO_FLIP, FLIP], [MASK], [PACK])],
        # The mask of the first view, which is not flipped, is the one that is compared.
        [LOAD, views([MASK], [NO_FLIP, {**FLIP, 'prob': 1.0}], [PACK])],
        [LOAD, RESIZE, PACK],
    ],
)
@pytest.mark.parametrize('split', EVALUATIONS)
def test_what_mmseg_undoes_passes(split: str, steps: list[dict[str, Any]]) -> None:
    check_geometry(Compose(steps), split)


@pytest.mark.parametrize('path', PATHS, ids=lambda path: path.stem)
def test_mmseg_s_own_data_sets_pass(path: Path) -> None:
    config = Config.fromfile(path)
    for split in ('training', *EVALUATIONS):
        loader = config[f'{split.removesuffix("ing").removesuffix("idation")}_dataloader']
        dataset = loader.dataset
        while 'pipeline' not in dataset:
            dataset = dataset.get('dataset') or dataset.datasets[0]
        check_geometry(Compose(dataset.pipeline), split)
    if 'tta_pipeline' in config:
        check_geometry(Compose(config.tta_pipeline), 'test')


def test_labels_that_a_pipeline_adds() -> None:
    steps = [
        PAD,
        {**PAD, 'type': 'Pad', 'pad_val': {'img': 0, 'seg': 7}},
        {**ROTATE, 'seg_pad_val': 3},
        CROP,
    ]
    assert dict(added_labels(Compose(steps[:1]), None)) == {"Pad.pad_val['seg']": 255}
    found = dict(added_labels(Compose(steps), None))
    assert found == {"Pad.pad_val['seg']": 7, 'RandomRotate.seg_pad_val': 3}
    balanced = Compose([{**CROP, 'cat_max_ratio': 0.75, 'ignore_index': 9}])
    assert dict(added_labels(balanced, None)) == {'RandomCrop.ignore_index': 9}
