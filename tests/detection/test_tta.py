"""Test-time augmentation of a real detector: the views' boxes are those of single predictions."""

import copy
import pickle
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor

import vit_dense.detection  # noqa: F401 - registers what the config names
from examples.streets import THING_CLASSES, DemoSpec, write_demo_dataset
from vit_dense.apis import evaluate_model

ROOT = Path(__file__).resolve().parents[2]
IOU_THRESHOLD = 0.5
MOST = 12
WIDTH = 96


@pytest.fixture(scope='module')
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The demo's detector, untrained, with all it finds, on two small scenes."""
    root = write_demo_dataset(tmp_path_factory.mktemp('tta') / 'demo', DemoSpec(1, 2, 64, WIDTH))
    config = Config.fromfile(ROOT / 'configs/vit_maskrcnn_demo.py')
    config.model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=20)
    config.tta_model.tta_cfg.max_per_img = MOST
    dataset = config.test_dataloader.dataset
    dataset.update(
        type='CheckedCocoDataset', data_root=str(root), metainfo={'classes': THING_CLASSES}
    )
    config.test_dataloader.update(num_workers=0, persistent_workers=False)
    config.test_evaluator.ann_file = str(root / 'annotations/instances_validation.json')
    config.work_dir = str(root.parent / 'work')
    return config


def views(config: Config, flips: tuple[float, ...]) -> list[dict]:
    """The demo's pipeline with other flips: a batch of one scene, once per view."""
    pipeline = [dict(step) for step in config.tta_pipeline]
    transforms = [list(choices) for choices in pipeline[-1]['transforms']]
    for index, choices in enumerate(transforms):
        if choices[0]['type'] == 'RandomFlip':
            transforms[index] = [{'type': 'RandomFlip', 'prob': prob} for prob in flips]
    pipeline[-1]['transforms'] = transforms
    return pseudo_collate(
        [DATASETS.build({**config.test_dataloader.dataset, 'pipeline': pipeline})[0]]
    )


def suppressed(found: InstanceData) -> list[tuple[int, float, list[float]]]:
    """Class-wise suppression as a loop: label, score and box of what stays, best first."""
    kept: list[tuple[int, float, list[float]]] = []
    for index in found.scores.argsort(descending=True).tolist():
        label, box = int(found.labels[index]), found.bboxes[index].tolist()
        if all(label != other or overlap(box, b) <= IOU_THRESHOLD for other, _, b in kept):
            kept.append((label, float(found.scores[index]), box))
    return kept[:MOST]


def overlap(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return common / (sum(areas) - common)


def flipped(boxes: Tensor) -> Tensor:
    left, top, right, bottom = boxes.unbind(1)
    return torch.stack([WIDTH - right, top, WIDTH - left, bottom], 1)


def test_merged_boxes_are_those_of_both_views(config: Config) -> None:
    init_default_scope('mmdet')
    model = MODELS.build({**config.tta_model, 'module': config.model}).eval()
    data = views(config, (0.0, 1.0))
    with torch.no_grad():
        (merged,) = model.test_step(data)
        singles = [
            model.module.test_step({key: value[view] for key, value in data.items()})[0]
            for view in range(2)
        ]
    assert [one.flip for one in singles] == [False, True]
    assert all('masks' in one.pred_instances for one in singles)
    plain, mirrored = (one.pred_instances for one in singles)
    mirrored.bboxes = flipped(mirrored.bboxes)
    expected = suppressed(InstanceData.cat([plain, mirrored]))

    found = merged.pred_instances
    assert 'masks' not in found
    assert found.labels.tolist() == [label for label, _, _ in expected]
    torch.testing.assert_close(found.scores, torch.tensor([score for _, score, _ in expected]))
    torch.testing.assert_close(found.bboxes, torch.tensor([box for _, _, box in expected]))
    # The mirrored view saw something of its own, or nothing was merged.
    assert not torch.equal(found.scores, plain.scores[: len(found)])


def test_the_demo_is_evaluated_with_augmentation(config: Config, tmp_path: Path) -> None:
    """Its metric asks for boxes and masks; it gets boxes, from twice the views."""
    config = copy.deepcopy(config)
    init_default_scope('mmdet')
    torch.save(MODELS.build(config.model).state_dict(), tmp_path / 'untrained.pth')
    metrics = evaluate_model(
        config, str(tmp_path / 'untrained.pth'), tta=True, out=str(tmp_path / 'raw.pkl')
    )
    assert 0 <= metrics['coco/bbox_mAP'] <= 1
    assert 'coco/segm_mAP' not in metrics
    results = pickle.loads((tmp_path / 'raw.pkl').read_bytes())
    assert [len(one['pred_instances']['scores']) for one in results] == [MOST, MOST]
    assert not [one for one in results if 'masks' in one['pred_instances']]
