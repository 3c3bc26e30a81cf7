"""From a detector's predictions to COCO's metrics: every figure is known beforehand."""

import json
import pickle
from pathlib import Path

import cv2
import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmengine.evaluator import Evaluator
from oracle import CLASSES, EDGE, HEIGHT, WIDTH, oracle_config, write_coco

from vit_dense.apis import evaluate_model
from vit_dense.engine.save_best import known_figures

NOTE = '--tta merges boxes only'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_coco(tmp_path)
    torch.save({'state_dict': {'weight': torch.zeros(1)}}, tmp_path / 'oracle.pth')
    return tmp_path


def evaluate(folder: Path, *, shift: int = 0, metric: object = None, **options: object) -> dict:
    config = oracle_config(folder, shift=shift)
    if metric is not None:
        config.test_evaluator.metric = metric
    return evaluate_model(config, str(folder / 'oracle.pth'), **options)


def log(folder: Path) -> str:
    return ''.join(path.read_text() for path in folder.glob('work/*/*.log'))


def expected(shift: int) -> float:
    """AP of squares that are moved: the share of the ten thresholds that their overlap reaches."""
    overlap = (EDGE - shift) / (EDGE + shift)
    return sum(overlap >= 0.5 + 0.05 * step for step in range(10)) / 10


@pytest.mark.parametrize('shift', [0, 8, 20])
def test_boxes_and_masks_are_measured(folder: Path, shift: int) -> None:
    metrics = evaluate(folder, shift=shift)
    assert expected(shift) == {0: 1.0, 8: 0.4, 20: 0.0}[shift]
    for kind in ('bbox', 'segm'):
        assert metrics[f'coco/{kind}_mAP'] == pytest.approx(expected(shift), abs=5e-4)
        assert metrics[f'coco/{kind}_mAP_50'] == float(shift < 20)
        assert metrics[f'coco/{kind}_mAP_75'] == float(shift < 5)


@pytest.mark.parametrize('metric', ['bbox', 'segm', ['bbox', 'segm']])
def test_augmentation_measures_boxes_and_says_so(folder: Path, metric: object) -> None:
    """Of flipped views, too: a box that is not flipped back misses the truth."""
    metrics = evaluate(folder, metric=metric, tta=True)
    assert metrics['coco/bbox_mAP'] == 1.0
    assert not [name for name in metrics if 'segm' in name]
    assert log(folder).count(NOTE) == ('segm' in metric)


def test_augmented_and_shifted(folder: Path) -> None:
    metrics = evaluate(folder, shift=8, tta=True, show_dir=str(folder / 'shown'))
    assert metrics['coco/bbox_mAP'] == pytest.approx(expected(8), abs=5e-4)
    assert len(list((folder / 'shown/test').glob('*.png'))) == 2


def test_mmdets_own_model_for_augmentation(folder: Path) -> None:
    """It asserts in the middle of a test where there are masks."""
    config = oracle_config(folder)
    config.tta_model.type = 'mmdet.DetTTAModel'
    with pytest.raises(ValueError, match=r"type='DetTTAModel' stops at .*type='BoxTTAModel'"):
        evaluate_model(config, str(folder / 'oracle.pth'), tta=True)


def test_several_evaluators(folder: Path) -> None:
    config = oracle_config(folder)
    boxes = {**config.test_evaluator, 'metric': 'bbox', 'prefix': 'boxes'}
    config.test_evaluator = [boxes, config.test_evaluator]
    metrics = evaluate_model(config, str(folder / 'oracle.pth'), tta=True)
    assert metrics['boxes/bbox_mAP'] == metrics['coco/bbox_mAP'] == 1.0


def test_results_and_pictures_are_written(folder: Path) -> None:
    out, shown = folder / 'raw.pkl', folder / 'shown'
    evaluate(folder, out=str(out), show_dir=str(shown))
    results = pickle.loads(out.read_bytes())
    assert [len(one['pred_instances']['masks']) for one in results] == [2, 2]
    assert results[0]['pred_instances']['bboxes'].tolist() == [[5, 3, 45, 43], [70, 40, 110, 80]]
    pictures = sorted((shown / 'test').glob('*.png'))
    assert [path.name for path in pictures] == ['0.png', '1.png']
    height, width = cv2.imread(str(pictures[0])).shape[:2]
    assert height >= HEIGHT
    assert width >= 2 * WIDTH, 'truth and prediction side by side'


@pytest.mark.parametrize(
    'options',
    [
        {'metric': ['bbox', 'segm'], 'classwise': True},
        {'metric': ['proposal', 'bbox'], 'metric_items': ['mAP', 'AR@100']},
        {'metric': 'proposal_fast', 'prefix': 'own'},
    ],
)
def test_listed_figures_are_those_of_coco_metric(folder: Path, options: dict) -> None:
    config = oracle_config(folder)
    config.test_evaluator.update(options)
    figures = evaluate_model(config, str(folder / 'oracle.pth'))
    metric = CocoMetric(**options)
    metric.dataset_meta = {'classes': CLASSES}
    assert sorted(figures) == sorted(known_figures(Evaluator([metric])) or ())


def test_augmentation_of_several_data_sets(folder: Path) -> None:
    config = oracle_config(folder)
    part = {**config.test_dataloader.dataset}
    config.test_dataloader.dataset = {'type': 'ConcatDataset', 'datasets': [part, part]}
    config.test_evaluator = []
    evaluate_model(config, str(folder / 'oracle.pth'), out=str(folder / 'raw.pkl'), tta=True)
    results = pickle.loads((folder / 'raw.pkl').read_bytes())
    truth = [[5, 3, 45, 43], [70, 40, 110, 80]]
    assert [one['pred_instances']['bboxes'].tolist() for one in results] == [truth] * 4


@pytest.mark.parametrize('annotations', [[], None])
@pytest.mark.parametrize('tta', [False, True])
def test_images_without_annotations_are_predicted(
    folder: Path, annotations: list | None, tta: bool
) -> None:
    config = oracle_config(folder)
    config.default_hooks.check = {'type': 'DetCheckHook'}
    path = Path(config.test_evaluator.ann_file)
    content = json.loads(path.read_text())
    del content['annotations']
    content |= {} if annotations is None else {'annotations': annotations}
    path.write_text(json.dumps(content))
    out = folder / 'raw.pkl'
    assert evaluate_model(config, str(folder / 'oracle.pth'), out=str(out), tta=tta) == {}
    results = pickle.loads(out.read_bytes())
    assert [Path(one['img_path']).name for one in results] == ['0.png', '1.png']
    assert 'there is nothing to measure' in log(folder)
    assert 'mAP' not in log(folder)
