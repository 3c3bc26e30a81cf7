"""Masks in the pipelines of the checked data set: any encoding, wide labels, wrong sizes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS

from vit_dense.segmentation import LoadMaskAnnotations

Make = Callable[..., dict[str, Any]]
SIZE = (40, 48)
COLOURS = [[0, 0, 0], [9, 9, 9], [200, 0, 0], [255, 255, 255]]


def build(config: dict[str, Any]) -> Any:
    with DATASETS.switch_scope_and_registry('mmseg') as registry:
        return registry.build(config)


def rewrite(root: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change the values of all masks, which are 0, 1, 2 and 255."""
    for path in sorted((root / 'annotations').rglob('*.png')):
        cv2.imwrite(str(path), change(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))


def truth(dataset: Any, index: int = 0) -> torch.Tensor:
    return dataset[index]['data_samples'].gt_sem_seg.data


def test_encodings_give_the_same_labels(dataset_config: Make, data_root: Path) -> None:
    plain = [truth(build(dataset_config()), index) for index in range(4)]
    table = np.zeros((256, 3), np.uint8)
    table[[0, 1, 2, 255]] = np.array(COLOURS)[:, ::-1]  # BGR for OpenCV
    rewrite(data_root, lambda mask: table[mask])
    coloured = build(dataset_config(colours=COLOURS))
    rewritten = [truth(coloured, index) for index in range(4)]
    assert all(torch.equal(*pair) for pair in zip(plain, rewritten, strict=True))
    rewrite(data_root, lambda mask: mask[..., 2])  # red: 0, 9, 200, 255
    mapped = build(dataset_config(label_map={0: 0, 9: 1, 200: 2, 255: 255}))
    assert torch.equal(truth(mapped, 1), plain[1])
    rewrite(data_root, lambda mask: mask.astype(np.uint16) * 100)
    wide = build(dataset_config(label_map={0: 0, 900: 1, 20000: 2, 25500: 255}))
    assert torch.equal(truth(wide, 2), plain[2])


def test_labels_above_255_survive_training_transforms(
    dataset_config: Make, data_root: Path
) -> None:
    """Every transform that touches masks gets 16 bits; nothing wraps to 8."""
    rewrite(data_root, lambda mask: np.where(mask == 255, 65535, mask * np.uint16(140)))
    void = {'ignore_index': 65535}
    steps: list[dict[str, Any]] = [
        {'type': 'LoadImageFromFile'},
        {'type': 'LoadAnnotations'},
        {'type': 'RandomResize', 'scale': (96, 80), 'ratio_range': (1.0, 1.0)},
        {'type': 'RandomRotate', 'prob': 1.0, 'degree': 20.0, 'seg_pad_val': 65535},
        {'type': 'RandomCrop', 'crop_size': (64, 64), 'cat_max_ratio': 0.75, **void},
        {'type': 'RandomFlip', 'prob': 1.0},
        {'type': 'Pad', 'size': (70, 70), 'pad_val': {'img': 0, 'seg': 65535}},
        {'type': 'PackSegInputs'},
    ]
    names = tuple(f'c{index}' for index in range(300))
    config = dataset_config(metainfo={'classes': names}, pipeline=steps, **void)
    labels = truth(build(config))
    assert labels.shape == (1, 70, 70)
    assert set(labels.unique().tolist()) == {0, 140, 280, 65535}


def test_more_than_255_classes_need_another_void(dataset_config: Make) -> None:
    names = tuple(f'c{index}' for index in range(256))
    with pytest.raises(ValueError, match=r'256 classes, ignore_index=255.*ignore_index=65535'):
        build(dataset_config(metainfo={'classes': names}))


def test_a_choice_of_classes_comes_after_the_label_map(
    dataset_config: Make, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite(data_root, lambda mask: np.where(mask == 255, 255, mask * 50).astype(np.uint8))
    from vit_dense.segmentation import CheckedSegDataset

    whole = {'classes': ('road', 'sky', 'car'), 'palette': [[0, 0, 0], [1, 1, 1], [2, 2, 2]]}
    monkeypatch.setattr(CheckedSegDataset, 'METAINFO', whole)
    options = {'label_map': {0: 0, 50: 1, 100: 2, 255: 255}}
    every = truth(build(dataset_config(metainfo=None, **options)))
    chosen = build(dataset_config(metainfo={'classes': ('car', 'road')}, **options))
    table = torch.tensor([1, 255, 0] + [255] * 253)
    assert torch.equal(truth(chosen), table[every])


def test_the_loader_is_replaced_inside_of_test_time_augmentation(
    dataset_config: Make, data_root: Path
) -> None:
    rewrite(data_root, lambda mask: mask.astype(np.uint16) * 100)
    flips = [{'type': 'RandomFlip', 'prob': prob} for prob in (0.0, 1.0)]
    loads = [{'type': 'mmseg.LoadAnnotations'}]
    augment = {
        'type': 'TestTimeAug',
        'transforms': [flips, loads, [{'type': 'PackSegInputs'}]],
    }
    pipeline = [{'type': 'LoadImageFromFile'}, augment]
    label_map = {0: 0, 100: 1, 200: 2, 25500: 255}
    dataset = build(dataset_config(pipeline=pipeline, label_map=label_map))
    samples = dataset[0]['data_samples']
    assert [set(one.gt_sem_seg.data.unique().tolist()) for one in samples] == 2 * [{0, 1, 2, 255}]
    assert pipeline[1]['transforms'][1] == [{'type': 'mmseg.LoadAnnotations'}]  # type: ignore[index]


@pytest.mark.parametrize('resized', [False, True])
def test_a_turned_mask_is_named(dataset_config: Make, data_root: Path, resized: bool) -> None:
    path = data_root / 'annotations/training/2.png'
    cv2.imwrite(str(path), np.zeros(SIZE[::-1], np.uint8))
    resize = [{'type': 'Resize', 'scale': (96, 80)}] if resized else []
    steps = [{'type': 'LoadImageFromFile'}, *resize, {'type': 'LoadAnnotations'}]
    dataset = build(dataset_config(scan_masks=0, pipeline=[*steps, {'type': 'PackSegInputs'}]))
    assert truth(dataset, 1).shape == (1, *SIZE)
    with pytest.raises(ValueError, match=r'2\.png has 40x48 pixels.*has 48x40.*90 degrees'):
        dataset[2]


def test_contradictions(dataset_config: Make) -> None:
    with pytest.raises(ValueError, match='reduce_zero_label=True together with label_map'):
        build(dataset_config(label_map={0: 0}, reduce_zero_label=True))
    with pytest.raises(ValueError, match=r'label_map leads to \[3\]; with 3 classes'):
        build(dataset_config(label_map={0: 3}))
    with pytest.raises(ValueError, match='colours has 2 entries for 3 classes'):
        build(dataset_config(colours=COLOURS[:2]))


def test_configs_keep_numbers_as_keys(tmp_path: Path) -> None:
    path = tmp_path / 'cfg.py'
    path.write_text('dataset = dict(label_map={0: 0, 255: 1})\n')
    Config.fromfile(path).dump(tmp_path / 'dumped.py')
    assert Config.fromfile(tmp_path / 'dumped.py').dataset.label_map == {0: 0, 255: 1}


def test_the_result_may_be_changed_in_place(data_root: Path) -> None:
    sample = {
        'seg_map_path': str(data_root / 'annotations/training/0.png'),
        'reduce_zero_label': False,
        'seg_fields': [],
    }
    labels = LoadMaskAnnotations()(sample)['gt_seg_map']
    labels[0, 0] = 1
    assert labels.dtype == np.uint8
