"""Training data of several tasks: joint labels, batches of a stated ratio, mistakes."""

import json
from copy import deepcopy
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.registry import DATA_SAMPLERS, DATASETS
from multitask_configs import FLIP, SEG_CLASSES, det_data, joint_data, own_data
from torch.utils.data import DataLoader

from vit_dense.compat.train_loader import train_batches
from vit_dense.multitask import TaskSampler
from vit_dense.multitask.datasets import parts_of


def box_of(mask: np.ndarray) -> list[float]:
    y, x = np.nonzero(mask)
    return [x.min(), y.min(), x.max() + 1, y.max() + 1]


@pytest.mark.parametrize('flip', [0.0, 1.0])
def test_joint_labels_move_together(root: Path, flip: float) -> None:
    data = DATASETS.build(joint_data(root, [{**FLIP, 'prob': flip}]))
    assert len(data) == 4
    for index in range(4):
        sample = data[index]
        seg, det = sample['data_samples']['seg'], sample['data_samples']['det']
        label = index % 2
        mask = seg.gt_sem_seg.data[0].numpy()
        assert {*np.unique(mask)} == {0, 1 + label}
        assert det.gt_instances.labels.tolist() == [label]
        assert det.gt_instances.bboxes.tensor.tolist() == [box_of(mask)]
        assert bool(seg.flip) == bool(det.flip) == bool(flip)
        level = sample['inputs'][:, mask > 0].unique()
        assert level.tolist() == [40 + 180 * label], 'the image, too'


def test_checks_of_a_task_see_the_whole_pipeline(root: Path) -> None:
    data = DATASETS.build(joint_data(root))
    names = {n: [type(s).__name__ for s in p.pipeline.transforms] for n, p in data.parts.items()}
    steps = ['RandomFlip', 'PackSegInputs']
    assert names['seg'] == ['LoadCheckedImage', 'LoadMaskAnnotations', *steps]
    assert names['det'] == ['LoadCheckedImage', 'LoadAnnotations', steps[0], 'PackDetInputs']
    assert data.metainfo['seg']['classes'] == SEG_CLASSES
    views = DATASETS.build({'type': 'FixedViews', 'dataset': joint_data(root), 'views': 2})
    assert parts_of(views).keys() == {'seg', 'det'}
    assert views[5]['data_samples'].keys() == {'seg', 'det'}


def test_images_without_a_label_are_left_out(root: Path, tmp_path: Path) -> None:
    content = json.loads((root / 'annotations/instances_training.json').read_text())
    few = {**content, 'images': content['images'][:2], 'annotations': content['annotations'][:2]}
    (tmp_path / 'few.json').write_text(json.dumps(few))
    config = joint_data(root)
    config['datasets']['det']['ann_file'] = str(tmp_path / 'few.json')
    data = DATASETS.build(config)
    assert [Path(data.get_data_info(i)['img_path']).stem for i in range(len(data))] == ['0', '1']


def test_wrong_values_in_a_mask_are_told(root: Path) -> None:
    config = joint_data(root)
    config['datasets']['seg'].update(metainfo={'classes': SEG_CLASSES[:2]}, scan_masks=0)
    with pytest.raises(ValueError, match=r'annotations/training/1\.png'):
        DATASETS.build(config)[1]


SEG_FLIP = {'type': 'mmseg.RandomRotFlip'}
SHIFT = {'type': 'RandomApply', 'transforms': [{'type': 'RandomShift'}]}
PACK = {'type': 'PackSegInputs'}


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda c: c['datasets'].update(more=c['datasets']['seg']), 'Use MultiTaskDataset'),
        (lambda c: c['pipeline'].append(SEG_FLIP), "mmseg's RandomRotFlip does not know boxes"),
        (lambda c: c['pipeline'].append(SHIFT), "mmdet's RandomShift moves no masks of classes"),
        (lambda c: c['pipeline'].append({'type': 'PackDetInputs'}), 'PackDetInputs ends the'),
        (lambda c: c['pipeline'].clear(), 'first step must load the image'),
        (lambda c: c['datasets']['seg'].update(pipeline=[]), r'datasets\.seg\.pipeline must load'),
        (lambda c: c['datasets']['seg'].update(pipeline=[PACK]), r'datasets\.seg\.pipeline must'),
        (lambda c: c['datasets']['det'].update(type='CheckedCocoDataset'), "'mmdet.CheckedCoco"),
        (lambda c: c['datasets']['det'].update(det_data(Path(c['datasets']['det']['data_root']),
                                                        'validation', pipeline=[FLIP, {
                                                            'type': 'PackDetInputs'}])),
         '0 images have labels of every task'),
    ],
)  # fmt: skip
def test_mistakes_are_told(root: Path, change: Any, message: str) -> None:
    config = deepcopy(joint_data(root))
    change(config)
    with pytest.raises(ValueError, match=message):
        DATASETS.build(config)


def test_albumentations_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """mmdet gives them no label map; the library need not be installed here."""
    library = SimpleNamespace(HorizontalFlip=lambda: None)
    monkeypatch.setattr('mmdet.datasets.transforms.transforms.albumentations', library)
    monkeypatch.setattr('mmdet.datasets.transforms.transforms.Compose', lambda *_, **__: None)
    with pytest.raises(ValueError, match=r"mmdet's Albu moves no masks of classes"):
        DATASETS.build(
            joint_data(root, [{'type': 'Albu', 'transforms': [{'type': 'HorizontalFlip'}]}])
        )


def test_pipelines_of_tasks_leave_the_image(root: Path) -> None:
    """A flip of each task would move the labels of the others, or not."""
    for step in ({**FLIP, 'prob': 1.0}, {'type': 'LoadImageFromFile'}):
        config = joint_data(root)
        config['datasets']['det']['pipeline'].insert(0, step)
        data = DATASETS.build(config)
        with pytest.raises(ValueError, match=r'det\.pipeline: \w+ changes the image'):
            data[0]


@pytest.fixture
def own(root: Path) -> Any:
    """Four samples of each task."""
    return DATASETS.build(own_data(root))


def test_a_sample_names_its_task(own: Any) -> None:
    assert [own[index]['data_samples'].task for index in range(8)] == ['det'] * 4 + ['seg'] * 4


def sampler(own: Any, rank: int = 0, world_size: int = 1, **options: Any) -> TaskSampler:
    options = {'per_batch': {'seg': 2, 'det': 1}, 'seed': 5, **options}
    made = DATA_SAMPLERS.build({'type': 'TaskSampler', 'dataset': own, **options})
    made.rank, made.world_size = rank, world_size
    return made


def test_every_batch_has_the_ratio_and_every_pass_all_samples(own: Any) -> None:
    indices = list(islice(sampler(own), 24))
    batches = [indices[i : i + 3] for i in range(0, 24, 3)]
    assert all(one[0] < 4 <= min(one[1:]) for one in batches), 'det, seg, seg'
    det, seg = [i for i in indices if i < 4], [i for i in indices if i >= 4]
    assert all({*det[i : i + 4]} == {0, 1, 2, 3} for i in range(0, 8, 4))
    assert all({*seg[i : i + 4]} == {4, 5, 6, 7} for i in range(0, 16, 4))


def test_processes_share_the_order_of_one(own: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Iteration i of two processes has the samples of iteration i of one with twice the batch."""
    whole = list(islice(sampler(own, per_batch={'seg': 4, 'det': 2}), 24))
    parts = []
    for rank in range(2):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda r=rank: (r, 2))
        parts.append(list(islice(sampler(own), 12)))
    for i in range(4):
        both = parts[0][3 * i : 3 * i + 3] + parts[1][3 * i : 3 * i + 3]
        assert sorted(both) == sorted(whole[6 * i : 6 * i + 6])


def test_batches_continue_at_any_position(own: Any) -> None:
    def indices(skipped: int, count: int) -> list[list[int]]:
        loader = DataLoader(range(8), batch_size=3, sampler=sampler(own))
        batches = train_batches(loader)
        assert batches is not None
        assert batches.skip(skipped) == 0
        return list(islice(iter(batches), count))

    assert indices(0, 10)[7:] == indices(7, 3)
    assert torch.tensor(indices(0, 10)).unique().numel() == 8


@pytest.mark.parametrize('wrong', [{'seg': 1}, {'seg': 1, 'det': 0}, {'seg': 1, 'det': 0.5}])
def test_every_task_needs_samples(own: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r'give each task .*\(det, seg\)'):
        sampler(own, per_batch=wrong)


def test_a_task_without_labels_is_told(root: Path, tmp_path: Path) -> None:
    """By its data set; masks that are missing by the check hook (test_multitask_runs)."""
    content = json.loads((root / 'annotations/instances_training.json').read_text())
    (tmp_path / 'bare.json').write_text(json.dumps({**content, 'annotations': []}))
    for config in (own_data(root), joint_data(root)):
        config['datasets']['det']['ann_file'] = str(tmp_path / 'bare.json')
        with pytest.raises(ValueError, match=r'bare\.json.*annotations'):
            DATASETS.build(config)


def test_the_sampler_is_for_data_sets_of_their_own(root: Path) -> None:
    """In `JointDataset` its indices would be of other samples."""
    data = DATASETS.build(joint_data(root))
    with pytest.raises(ValueError, match='TaskSampler with JointDataset'):
        TaskSampler(data, {'seg': 1, 'det': 1})
