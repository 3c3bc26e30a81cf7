"""`save_best` against the figures of the metric: an error before training, never one after it."""

import logging
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric, CrowdHumanMetric, VOCMetric
from mmengine.evaluator import BaseMetric, DumpResults, Evaluator
from mmengine.hooks import CheckpointHook
from mmengine.registry import METRICS
from mmengine.runner import Runner
from mmseg.evaluation import IoUMetric
from tiny_training import tiny_runner

import vit_dense.detection
import vit_dense.segmentation  # noqa: F401 - both list the figures of their metrics
from vit_dense.engine.save_best import SaveBestCheckHook, known_figures


@METRICS.register_module()
class GivenFigures(BaseMetric):
    """Returns what it was given, one dict at each evaluation."""

    def __init__(self, figures: Sequence[dict[str, float]]) -> None:
        super().__init__(prefix='own')
        self.figures = list(figures)

    def process(self, data_batch: Any, data_samples: Sequence) -> None:
        self.results.append(0)

    def compute_metrics(self, results: list) -> dict[str, float]:
        return self.figures.pop(0)


def train(work: Path, metric: BaseMetric, **checkpoint: object) -> Runner:
    """Trains three steps with a validation after each."""
    hooks = {
        'checkpoint': {'type': 'CheckpointHook', 'by_epoch': False, **checkpoint},
        'save_best_check': {'type': 'SaveBestCheckHook'},
    }
    runner = tiny_runner(work, val_evaluator=Evaluator([metric]), default_hooks=hooks)
    runner.train()
    return runner


def best(work: Path) -> list[str]:
    return sorted(path.name for path in work.glob('best_*'))


def log(work: Path) -> str:
    return ''.join(path.read_text() for path in work.glob('*/*.log'))


def test_a_figure_that_a_known_metric_lacks_is_told_before_training(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"save_best='coco/bbox_mAP', but VOCMetric") as error:
        train(tmp_path / 'work', VOCMetric(), save_best='coco/bbox_mAP')
    assert "save_best='pascal_voc/mAP'" in str(error.value)
    assert not list(tmp_path.glob('work/*.pth'))


@pytest.mark.parametrize(
    ('metric', 'wanted', 'advice'),
    [
        (IoUMetric(), 'mIoU', None),
        (IoUMetric(), 'aAcc', None),
        (IoUMetric(), 'auto', None),
        (IoUMetric(prefix='val'), 'mIoU', "save_best='val/mIoU'"),
        (IoUMetric(iou_metrics=['mDice']), 'mIoU', "save_best='mDice'"),
        (CocoMetric(metric=['segm']), 'coco/bbox_mAP', "save_best='coco/segm_mAP'"),
        (CocoMetric(prefix='a'), 'coco/bbox_mAP', "save_best='a/bbox_mAP'"),
        (CocoMetric(metric_items=['mAP_50']), 'coco/bbox_mAP', "save_best='coco/bbox_mAP_50'"),
        (CocoMetric(metric='proposal_fast'), 'coco/AR@100', None),
        (CrowdHumanMetric('a', metric='JI'), 'coco/bbox_mAP', "crowd_human/JI', rule='greater'"),
        (CocoMetric(format_only=True, outfile_prefix='out'), 'coco/bbox_mAP', None),
    ],
)
def test_advice(metric: BaseMetric, wanted: str, advice: str | None) -> None:
    hook = CheckpointHook(save_best=wanted)
    state: Any = SimpleNamespace(
        val_loop=object(),
        val_evaluator=Evaluator([metric, DumpResults('out.pkl')]),
        hooks=[hook],
    )
    if advice is None:
        SaveBestCheckHook().before_train(state)
        return
    with pytest.raises(ValueError, match='save_best') as error:
        SaveBestCheckHook().before_train(state)
    assert advice in str(error.value)


def test_an_unknown_metric_takes_the_first_figure_that_can_be_compared(tmp_path: Path) -> None:
    figures = [{'speed': 5.0, 'top': value} for value in (1.0, 3.0, 2.0)]
    train(tmp_path / 'work', GivenFigures(figures), save_best='mIoU')
    assert best(tmp_path / 'work') == ['best_own_top_iter_2.pth']
    assert log(tmp_path / 'work').count("chosen by 'own/top' from now on") == 1


@pytest.mark.parametrize('wanted', ['mIoU', 'auto'])
def test_no_figure_that_can_be_compared(tmp_path: Path, wanted: str) -> None:
    train(tmp_path / 'work', GivenFigures([{'speed': 5.0}] * 3), save_best=wanted)
    assert best(tmp_path / 'work') == []
    assert log(tmp_path / 'work').count('No best checkpoint is kept') == 1


def test_a_rule_of_the_user_s_own_is_kept(tmp_path: Path) -> None:
    figures = [{'speed': value} for value in (5.0, 3.0, 4.0)]
    train(tmp_path / 'work', GivenFigures(figures), save_best='auto', rule='less')
    assert best(tmp_path / 'work') == ['best_own_speed_iter_2.pth']


def test_one_of_several_figures_that_is_missing_once(tmp_path: Path) -> None:
    figures = [{'acc': 1.0}, {'acc': 0.5, 'mIoU': 7.0}, {'acc': 0.2, 'mIoU': 6.0}]
    names = ['own/acc', 'own/mIoU']
    train(tmp_path / 'work', GivenFigures(figures), save_best=names)
    assert best(tmp_path / 'work') == ['best_own_acc_iter_1.pth', 'best_own_mIoU_iter_2.pth']


def test_a_known_metric_that_found_nothing_once() -> None:
    hook = CheckpointHook(save_best='coco/bbox_mAP')
    evaluator = Evaluator([CocoMetric(), GivenFigures([])])
    state: Any = SimpleNamespace(hooks=[hook], val_evaluator=evaluator)
    metrics = {'other/figure': 1.0}
    SaveBestCheckHook().after_val_epoch(state, metrics)
    assert metrics == {'other/figure': 1.0, 'coco/bbox_mAP': None}
    assert hook.key_indicators == ['coco/bbox_mAP']


@pytest.mark.parametrize('asked', [['mIoU'], ['mDice', 'mFscore'], 'mIoU'])
def test_listed_figures_are_those_of_iou_metric(asked: Any) -> None:
    logging.getLogger('mmengine').setLevel(logging.ERROR)
    metric = IoUMetric(iou_metrics=asked, prefix='p')
    metric.dataset_meta = {'classes': ('a', 'b')}
    ones = torch.ones(2)
    metric.results = [(ones, 2 * ones, ones, 2 * ones)]
    assert sorted(metric.evaluate(1)) == sorted(known_figures(Evaluator([metric])) or ())


@pytest.mark.parametrize(
    'options',
    [{}, {'iou_thrs': [0.5, 0.75]}, {'metric': 'recall'}, {'metric': 'recall', 'iou_thrs': [0.5]}],
)
def test_listed_figures_are_those_of_voc_metric(options: dict) -> None:
    options = {'iou_thrs': [0.5, 0.7], **options} if options.get('metric') else options
    metric = VOCMetric(proposal_nums=(1, 10), **options)
    metric.dataset_meta = {'classes': ('a',)}
    box = np.array([[1.0, 2, 30, 40]], np.float32)
    none = np.zeros((0, 4), np.float32)
    truth = {'labels': np.array([0]), 'bboxes': box, 'labels_ignore': np.zeros(0, int)}
    prediction = [np.hstack([box, [[0.9]]]).astype(np.float32)]
    metric.results = [({**truth, 'bboxes_ignore': none}, prediction)]
    assert sorted(metric.evaluate(1)) == sorted(known_figures(Evaluator([metric])) or ())
