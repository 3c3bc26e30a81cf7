"""Options of the COCO metric work, or are an error before training."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from coco_files import CLASSES, sound, write
from mmdet.evaluation import CocoMetric
from PIL import Image
from torch import nn

from vit_dense.apis.errors import user_message
from vit_dense.detection import CheckedCocoMetric, DetCheckHook
from vit_dense.detection.check_hook import check_metric
from vit_dense.detection.metric_options import check_coco_options
from vit_dense.engine.save_best import known_figures

Make = Callable[..., dict[str, Any]]
Build = Callable[[dict[str, Any]], Any]


def metric(data_root: Path, **options: Any) -> CheckedCocoMetric:
    made = CheckedCocoMetric(str(data_root / 'annotations' / 'train.json'), **options)
    made.dataset_meta = {'classes': CLASSES}
    return made


def score(made: CocoMetric, shift: float = 0.0) -> dict[str, float]:
    """Returns the figures of the true boxes, moved to the right by `shift` of their width."""
    for one in sound()['annotations']:
        x, y, width, height = one['bbox']
        x += shift * width
        found = {
            'bboxes': torch.tensor([[x, y, x + width, y + height]]),
            'scores': torch.ones(1),
            'labels': torch.tensor([[3, 7].index(one['category_id'])]),
        }
        sample = {'img_id': one['image_id'], 'ori_shape': (40, 48), 'pred_instances': found}
        made.process({}, [sample])
    return made.evaluate(2)


@pytest.mark.parametrize('thresholds', [0.8, [0.8], (0.5, 0.8), np.array([0.75, 0.8]), [0.8, 0.5]])
def test_thresholds_of_any_number(data_root: Path, thresholds: Any) -> None:
    made = metric(data_root, iou_thrs=thresholds)
    names = known_figures(SimpleNamespace(metrics=[made]))
    # IoU of the moved boxes: 0.9 / 1.1 = 0.82, and 0.7 / 1.3 = 0.54
    exact, close, far = (score(made, shift) for shift in (0, 0.1, 0.3))
    assert sorted(exact) == sorted(names)
    assert exact['coco/bbox_mAP'] == close['coco/bbox_mAP'] == 1
    assert far['coco/bbox_mAP'] == (0.5 if 0.5 in np.atleast_1d(thresholds) else 0)
    assert ('coco/bbox_mAP_50' in exact) == (0.5 in np.atleast_1d(thresholds))
    assert ('coco/bbox_mAP_75' in exact) == (0.75 in np.atleast_1d(thresholds))


def test_plain_options_are_left_as_they_are(data_root: Path) -> None:
    made = metric(data_root, classwise=True, proposal_nums=[1, 10, 100])
    figures = score(made)
    assert figures['coco/bbox_mAP'] == figures['coco/bbox_mAP_50'] == 1
    assert figures['coco/cat_precision'] == 1
    check_coco_options(CocoMetric(metric='proposal_fast', proposal_nums=(5,), iou_thrs=[0.3]))
    check_coco_options(CocoMetric(metric='proposal'))
    check_coco_options(CocoMetric(metric_items=['mAP', 'AR@100']))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'iou_thrs': [0.8], 'classwise': True}, r'iou_thrs=\[0\.8\] with classwise=True'),
        ({'iou_thrs': [80]}, r'iou_thrs=\[80\] .* numbers in \(0, 1\]'),
        ({'iou_thrs': []}, r'numbers in \(0, 1\]'),
        ({'proposal_nums': (100,)}, r'proposal_nums=\(100,\) .* three numbers'),
        ({'proposal_nums': (1, 10, 300)}, 'with 100 among them'),
        ({'proposal_nums': (1, 10, 100), 'metric': 'proposal'}, 'recalls are called AR@100'),
        ({'proposal_nums': (1, 10, 100), 'metric_items': ['AR@100']}, 'recalls are called'),
        ({'metric_items': ['mAP50']}, r"'mAP50'; allowed are mAP, mAP_50"),
    ],
)
def test_options_that_fail_after_an_epoch(data_root: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metric(data_root, **options)


def test_options_of_mmdets_own_metric(dataset_config: Make, build: Build, data_root: Path) -> None:
    theirs = CocoMetric(str(data_root / 'annotations' / 'train.json'), proposal_nums=(1, 2, 3))
    with pytest.raises(ValueError, match=r'proposal_nums=\(1, 2, 3\)'):
        DetCheckHook().before_test(state(theirs, build(dataset_config())))
    theirs.format_only = True
    DetCheckHook().before_test(state(theirs, build(dataset_config())))


@pytest.mark.parametrize(('name', 'problem'), [('images', 'a folder'), ('no.json', 'not exist')])
def test_annotation_file_of_the_evaluator(data_root: Path, name: str, problem: str) -> None:
    with pytest.raises(ValueError, match=rf"ann_file='.*{name}', .*{problem}.*Remove ann_file"):
        CheckedCocoMetric(str(data_root / name))


def state(one: CocoMetric, dataset: Any, model: nn.Module | None = None) -> SimpleNamespace:
    evaluator = SimpleNamespace(metrics=[one])
    loader = SimpleNamespace(dataset=dataset)
    model = model or nn.Identity()
    return SimpleNamespace(model=model, test_dataloader=loader, test_evaluator=evaluator)


def test_masks_of_a_model_without_masks(
    dataset_config: Make, build: Build, data_root: Path
) -> None:
    dataset, made = build(dataset_config()), metric(data_root, metric=['bbox', 'segm'])
    with pytest.raises(ValueError, match=r"test evaluator has metric=\['bbox', 'segm'\].*Identity"):
        DetCheckHook().before_test(state(made, dataset))
    DetCheckHook().before_test(state(made, dataset, nn.ModuleDict({'mask_head': nn.Identity()})))
    DetCheckHook().before_test(state(metric(data_root), dataset))


def test_masks_to_measure_against(dataset_config: Make, build: Build, data_root: Path) -> None:
    pipeline = [{'type': 'LoadImageFromFile'}, {'type': 'PackDetInputs'}]
    content, dataset = sound(), build(dataset_config(pipeline=pipeline))
    check_metric(metric(data_root, metric='segm'), dataset, 'test')
    for mask, message in (([], 'no usable segmentation'), ([[99, 9, 98, 7, 3, 1]], 'do not fit')):
        content['annotations'][0]['segmentation'] = mask
        write(data_root, content)
        with pytest.raises(ValueError, match=message):
            check_metric(metric(data_root, metric='segm'), dataset, 'test')
        check_metric(metric(data_root), dataset, 'test')


def test_boxes_on_pixels_as_stored(dataset_config: Make, build: Build, data_root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (48, 40)).save(data_root / 'images' / 'b.png', exif=exif)
    pipeline = dataset_config()['pipeline']
    with pytest.raises(ValueError, match="color_type='color_ignore_orientation'"):
        build(dataset_config())
    pipeline[0]['color_type'] = 'color_ignore_orientation'
    assert build(dataset_config(pipeline=pipeline))[1]['inputs'].shape == (3, 40, 48)


def test_values_of_boxes_are_checked_whatever_bad_boxes_says(
    dataset_config: Make, build: Build, data_root: Path
) -> None:
    content = sound()
    for one in content['annotations']:
        one['bbox'] = [0.1, 0.2, 0.5, 0.3]
    write(data_root, content)
    with pytest.raises(ValueError, match='no box has a value above 1'):
        build(dataset_config(bad_boxes='skip'))


def test_a_missing_file_of_mmdets_own_metric_is_a_message() -> None:
    with pytest.raises(FileNotFoundError) as error:
        CocoMetric('nowhere/val.json')
    assert user_message(error.value) == (
        'The file nowhere/val.json does not exist: correct ann_file in the evaluator or data set.'
    )
