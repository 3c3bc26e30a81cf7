"""The transfer benchmark's own parts: patches, the timm checkpoint, resuming, the table."""

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import timm

from vit_dense.weights import load_vit_weights

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def transfer():
    spec = importlib.util.spec_from_file_location('transfer', ROOT / 'benchmarks' / 'transfer.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def args(transfer, tmp_path, monkeypatch):
    """Options for a data set of two images: left half class 0 and dark, right half 2 and light."""
    for split in ('training', 'validation'):
        for kind in ('images', 'annotations'):
            (tmp_path / 'data' / kind / split).mkdir(parents=True)
        for name in 'ab':
            image = np.full((64, 128, 3), 20, np.uint8)
            image[:, 64:] = (250, 128, 0)  # BGR
            mask = np.zeros((64, 128), np.uint8)
            mask[:, 64:] = 2
            mask[:8] = 255
            cv2.imwrite(str(tmp_path / f'data/images/{split}/{name}.png'), image)
            cv2.imwrite(str(tmp_path / f'data/annotations/{split}/{name}.png'), mask)
    options = {
        '--data-root': tmp_path / 'data',
        '--work-dir': tmp_path / 'work',
        '--model-name': 'test_vit',
        '--depth': 2,
        '--patch-size': 32,
        '--patches': 10,
        '--epochs': 1,
        '--scale': 1,
    }
    argv = [str(text) for pair in options.items() for text in pair]
    monkeypatch.setattr(sys, 'argv', ['transfer.py', *argv])
    return transfer.parse_args()


def test_windows_have_a_majority(transfer):
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 32:] = 2
    mask[:40, :] = 255
    windows = transfer.labelled_windows(mask, 16, scale=0.5)
    assert {label for label, _ in windows} == {0, 2}
    for label, (top, left, edge) in windows:
        window = mask[top : top + edge, left : left + edge]
        assert window.shape == (edge, edge)
        assert (window == label).mean() >= transfer.MIN_SHARE


def test_patches_are_balanced_and_rgb(transfer, args):
    images, labels = transfer.load_patches(args, 'training', 10)
    assert images.shape == (20, 3, 32, 32)
    assert labels.bincount().tolist() == [10, 0, 10]
    light = images[labels == 2][0, :, 16, -1].tolist()
    assert light == [0, 128, 250]


def test_classifier_becomes_a_backbone(transfer, args):
    (Path(args.work_dir) / 'classifier').mkdir(parents=True)
    result = transfer.train_classifier(args)
    assert result['training_patches'] == 20
    model = timm.create_model('test_vit', depth=2, num_classes=0)
    report = load_vit_weights(model, result['checkpoint'])
    assert report.matched == 1
    assert report.resized == {'pos_embed': 'grid 2x2 -> 10x10'}
    assert sorted(report.ignored) == ['head.bias', 'head.weight']


@pytest.mark.parametrize('backbone', ['ViTAdapter', 'SimpleFeaturePyramid'])
def test_only_the_weights_differ(transfer, args, backbone, monkeypatch):
    seen = []

    class Stopped:
        message_hub = SimpleNamespace(get_scalar=lambda name: SimpleNamespace(current=lambda: 7))

    def train_model(config, seed):
        seen.append((seed, config.to_dict()))
        return Stopped()

    monkeypatch.setattr(transfer, 'train_model', train_model)
    args.config, args.backbone = str(ROOT / 'configs/vit_upernet_camvid.py'), backbone
    for checkpoint in (None, 'vit.pth'):
        assert transfer.segment(args, checkpoint, Path('run'), 3)['mIoU'] == 7
    (seed, without), (same_seed, with_) = seen
    assert seed == same_seed == 3
    assert without['model']['backbone']['vit'].pop('checkpoint') is None
    assert with_['model']['backbone']['vit'].pop('checkpoint') == 'vit.pth'
    assert without == with_
    assert without['model']['backbone']['type'] == backbone
    assert without['model']['backbone']['vit']['pretrained'] is False
    assert without['param_scheduler'][1]['end'] == args.iterations
    assert str(args.data_root) in str(without['val_dataloader'])


def test_finished_runs_are_kept(transfer, tmp_path):
    assert transfer.once(tmp_path / 'run', lambda: {'mIoU': 1.0})['mIoU'] == 1
    assert transfer.once(tmp_path / 'run', lambda: pytest.fail('ran again'))['mIoU'] == 1
    transfer.check_settings(tmp_path / 'settings.json', {'crop': 64})
    transfer.check_settings(tmp_path / 'settings.json', {'crop': 64})
    with pytest.raises(SystemExit, match='other settings'):
        transfer.check_settings(tmp_path / 'settings.json', {'crop': 96})


def test_table(transfer):
    classifier = {'accuracy': 50.0, 'validation_patches': 9, 'chance': 10.0}
    runs = {
        'scratch': [{'mIoU': 10.0, 'seconds': 1}, {'mIoU': 12.0, 'seconds': 1}],
        'transfer': [{'mIoU': 15.0, 'seconds': 1}, {'mIoU': 16.0, 'seconds': 1}],
    }
    text = transfer.format_report(json.loads(json.dumps(classifier)), runs)
    assert '| scratch  | 11.00 ± 1.41 | 10.00 | 12.00 | 2 | 1 |' in text
    assert 'gain by transfer, seed by seed: 4.50 ± 0.71 mIoU' in text


def test_missing_data(transfer, args, tmp_path):
    args.data_root = str(tmp_path / 'nowhere')
    with pytest.raises(SystemExit, match='no images in'):
        transfer.load_patches(args, 'training', 1)
