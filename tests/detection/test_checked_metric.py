"""The COCO metric measures against what the data set reads: perfect predictions have AP 1."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from coco_files import CLASSES, sound, write, write_voc, write_yolo
from mmengine.evaluator import Evaluator
from mmengine.registry import METRICS

from vit_dense.detection import CheckedCocoDataset, CheckedCocoMetric, DetCheckHook

Make = Callable[..., dict[str, Any]]
Build = Callable[[dict[str, Any]], Any]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


@pytest.fixture
def boxes(dataset_config: Make, build: Build) -> Callable[..., CheckedCocoDataset]:
    """Builds a validation set with boxes alone."""

    def make(**changes: Any) -> CheckedCocoDataset:
        pipeline = dataset_config()['pipeline']
        pipeline[1]['with_mask'] = False
        fast = {'pipeline': pipeline, 'test_mode': True, 'serialize_data': False}
        return build(dataset_config(**fast, **changes))

    return make


def hand_over(metric: Any, dataset: Any, stage: str = 'before_test') -> None:
    """Does what the hook does before an evaluation."""
    evaluator, loader = Evaluator(metric), SimpleNamespace(dataset=dataset)
    state = SimpleNamespace(
        iter=0,
        model=torch.nn.Identity(),
        val_dataloader=loader,
        test_dataloader=loader,
        val_evaluator=evaluator,
        test_evaluator=evaluator,
    )
    getattr(DetCheckHook(), stage)(state)


def score(metric: Any, dataset: Any, shift: float = 0.0) -> float:
    """Box AP of the truth, moved by `shift` pixels."""
    metric.dataset_meta = dataset.metainfo
    for index in range(len(dataset)):
        sample = dataset[index]['data_samples']
        truth = sample.gt_instances
        found = {
            'bboxes': truth.bboxes.tensor + shift,
            'labels': truth.labels,
            'scores': torch.ones(len(truth)),
        }
        metric.process({}, [{**sample.to_dict(), 'pred_instances': found}])
    return metric.evaluate(len(dataset))['coco/bbox_mAP']


@pytest.mark.parametrize('stage', ['before_val', 'before_test'])
@pytest.mark.parametrize('name', ['coco', 'voc', 'yolo', 'two files'])
def test_perfect_predictions_of_every_format(
    boxes: Any, data_root: Path, tmp_path: Path, name: str, stage: str
) -> None:
    halves = [sound(), sound()]
    for kept, half in enumerate(halves):
        half['images'] = half['images'][kept : kept + 1]
        half['annotations'] = half['annotations'][kept : kept + 1]
    source = {
        'coco': lambda: 'annotations/train.json',
        'voc': lambda: Path(write_voc(data_root, sound())).name,
        'yolo': lambda: write_yolo(data_root, sound()),
        'two files': lambda: [write(data_root, half, f'{len(str(half))}') for half in halves],
    }[name]()
    dataset = boxes(ann_file=source)
    for shift, expected in ((0.0, 1.0), (1.0, 0.65)):
        metric = CheckedCocoMetric()
        hand_over(metric, dataset, stage)
        assert score(metric, dataset, shift) == pytest.approx(expected, abs=0.001)


@pytest.mark.parametrize('number', [0, 'a5', None])
@pytest.mark.parametrize('own_file', [False, True])
def test_annotation_ids_are_repaired(
    boxes: Any, data_root: Path, number: Any, own_file: bool
) -> None:
    content = sound()
    content['annotations'][0]['id'] = number
    path, dataset = write(data_root, content), boxes()
    metric = CheckedCocoMetric(ann_file=path) if own_file else CheckedCocoMetric()
    hand_over(metric, dataset)
    assert score(metric, dataset) == 1


def test_only_images_of_the_data_set_count(boxes: Any, data_root: Path) -> None:
    (data_root / 'val.txt').write_text('b\n')
    for changes in ({'image_list': 'val.txt'}, {'indices': 1}):
        dataset, metric = boxes(**changes), CheckedCocoMetric()
        hand_over(metric, dataset)
        assert len(dataset) == 1
        assert score(metric, dataset) == 1


def test_own_files_count_as_one(boxes: Any, data_root: Path) -> None:
    """The metric's file is measured, not the data set's, and several are merged."""
    others = sound()
    for image in others['images']:
        image['file_name'] = f'c{image["id"]}.png'
    files = [str(data_root / 'annotations/train.json'), write(data_root, others, 'other.json')]
    dataset, metric = boxes(), CheckedCocoMetric(ann_file=files)
    hand_over(metric, dataset)
    assert score(metric, dataset) == pytest.approx(0.5, abs=0.011), 'half of the images are missed'


def test_the_registry_and_sorted_categories(data_root: Path) -> None:
    content = sound()
    content['categories'].reverse()
    options = {'ann_file': write(data_root, content), 'sort_categories': True}
    metric = METRICS.build({'type': 'CheckedCocoMetric', **options})
    assert metric._coco_api.get_cat_ids(cat_names=CLASSES) == [3, 7]


def test_nothing_to_measure_against(boxes: Any, build: Build, data_root: Path) -> None:
    dataset = boxes()
    with pytest.raises(AssertionError, match='ground truth is required'):
        score(CheckedCocoMetric(), dataset)
    with pytest.raises(ValueError, match=r"images', a folder. Remove ann_file"):
        CheckedCocoMetric(ann_file=str(data_root / 'images'))
    with pytest.raises(ValueError, match=r"none\.json', which does not exist"):
        CheckedCocoMetric(ann_file=str(data_root / 'none.json'))
    empty = boxes(ann_file=write(data_root, {**sound(), 'annotations': []}))
    with pytest.raises(ValueError, match='validation evaluator has no annotations'):
        hand_over(CheckedCocoMetric(), empty, 'before_val')


def test_several_data_sets(boxes: Any) -> None:
    both = torch.utils.data.ConcatDataset([boxes(), boxes()])
    with pytest.raises(ValueError, match=r"test data are several .* ann_file=\['.*', '.*json'\]"):
        hand_over(CheckedCocoMetric(), both)


def test_images_without_annotations(boxes: Any, data_root: Path, tmp_path: Path) -> None:
    """As for a test server: predictions are written, nothing is measured."""
    dataset = boxes()
    content = sound()
    del content['annotations']
    write(data_root, content)
    metric = CheckedCocoMetric(format_only=True, outfile_prefix=str(tmp_path / 'found'))
    hand_over(metric, dataset)
    metric.dataset_meta = dataset.metainfo
    sample = dataset[0]['data_samples']
    found = {'bboxes': torch.ones(1, 4), 'labels': torch.tensor([1]), 'scores': torch.ones(1)}
    metric.process({}, [{**sample.to_dict(), 'pred_instances': found}])
    assert metric.evaluate(1) == {}
    assert '"category_id": 7' in (tmp_path / 'found.bbox.json').read_text().replace(':7', ': 7')
