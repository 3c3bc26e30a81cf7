"""Without labels, a test predicts and measures nothing; training and validation say so first."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric, DumpResults, Evaluator
from mmengine.registry import DATASETS
from mmengine.structures import PixelData
from mmseg.evaluation import IoUMetric
from mmseg.structures import SegDataSample
from torch import nn

from vit_dense.segmentation import SegCheckHook

Make = Callable[..., dict[str, Any]]
VIEWS = [[{'type': 'RandomFlip', 'prob': 0.0}], [{'type': 'LoadAnnotations'}]]
TTA = [
    {'type': 'LoadImageFromFile'},
    {'type': 'TestTimeAug', 'transforms': [*VIEWS, [{'type': 'PackSegInputs'}]]},
]


class Own(BaseMetric):
    """A metric of the user's, which may not need labels."""

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.append(len(data_samples))

    def compute_metrics(self, results: list) -> dict[str, int]:
        return {'samples': sum(results)}


def build(config: dict[str, Any]) -> Any:
    with DATASETS.switch_scope_and_registry('mmseg') as registry:
        return registry.build(config)


def unlabelled(make: Make, **changes: Any) -> Any:
    return build(make(data_prefix={'img_path': 'images/validation'}, **changes))


def runner(dataset: Any, *metrics: BaseMetric) -> SimpleNamespace:
    loader = SimpleNamespace(dataset=dataset)
    evaluator = Evaluator(list(metrics))
    evaluator.dataset_meta = {'classes': ('a', 'b', 'c')}
    names = {f'{split}_dataloader': loader for split in ('train', 'val', 'test')}
    names |= {f'{split}_evaluator': evaluator for split in ('val', 'test')}
    return SimpleNamespace(model=nn.Identity(), iter=0, val_loop=object(), **names)


@pytest.mark.parametrize('changes', [{}, {'pipeline': TTA}])
def test_a_test_predicts(dataset_config: Make, tmp_path: Path, changes: dict[str, Any]) -> None:
    dump = DumpResults(str(tmp_path / 'raw.pkl'))
    own = Own()
    state = runner(unlabelled(dataset_config, **changes), IoUMetric(), dump, own)
    SegCheckHook().before_test(state)
    assert state.test_evaluator.metrics == [dump, own]
    sample = state.test_dataloader.dataset[0]['data_samples']
    assert 'gt_sem_seg' not in (sample[0] if isinstance(sample, list) else sample)


def test_with_labels_nothing_changes(dataset_config: Make) -> None:
    metric = IoUMetric()
    state = runner(build(dataset_config()), metric)
    SegCheckHook().before_test(state)
    assert state.test_evaluator.metrics == [metric]
    assert not metric.format_only
    assert 'gt_sem_seg' in state.test_dataloader.dataset[0]['data_samples']


def test_a_part_without_labels_is_an_error(dataset_config: Make) -> None:
    parts = [
        dataset_config(),
        dataset_config(data_prefix={'img_path': 'images/validation'}),
    ]
    both = build({'type': 'ConcatDataset', 'datasets': parts})
    with pytest.raises(ValueError, match='The test data set has no masks'):
        SegCheckHook().before_test(runner(both, IoUMetric()))


@pytest.mark.parametrize(
    ('stage', 'split'), [('before_train', 'training'), ('before_val', 'validation')]
)
def test_training_and_validation_need_labels(dataset_config: Make, stage: str, split: str) -> None:
    state = runner(unlabelled(dataset_config), IoUMetric())
    with pytest.raises(ValueError, match=f'The {split} data set has no masks'):
        getattr(SegCheckHook(), stage)(state)
    written = runner(unlabelled(dataset_config), DumpResults('raw.pkl'))
    if split == 'validation':
        SegCheckHook().before_val(written)


def sample(label: int, folder: Path, **meta: Any) -> SegDataSample:
    found = SegDataSample(pred_sem_seg=PixelData(data=torch.full((1, 4, 5), label)))
    found.set_metainfo({'img_path': str(folder / 'image.jpg'), **meta})
    return found


@pytest.mark.parametrize(
    ('classes', 'label', 'meta', 'expected', 'kind'),
    [
        (300, 297, {}, 297, np.uint16),
        (256, 255, {}, 255, np.uint8),
        (256, 255, {'reduce_zero_label': True}, 256, np.uint16),
        (150, 3, {'reduce_zero_label': True}, 4, np.uint8),
    ],
)
def test_label_maps_of_any_number_of_classes(
    dataset_config: Make,
    tmp_path: Path,
    classes: int,
    label: int,
    meta: dict[str, Any],
    expected: int,
    kind: type,
) -> None:
    state = runner(unlabelled(dataset_config), IoUMetric(output_dir=str(tmp_path / 'out')))
    SegCheckHook().before_test(state)
    evaluator = state.test_evaluator
    evaluator.dataset_meta = {'classes': [str(index) for index in range(classes)]}
    evaluator.process([sample(label, tmp_path, **meta)], None)
    assert evaluator.evaluate(1) == {}
    written = cv2.imread(str(tmp_path / 'out/image.png'), cv2.IMREAD_UNCHANGED)
    assert written.dtype == kind
    assert (written == expected).all()
    assert written.shape == (4, 5)
