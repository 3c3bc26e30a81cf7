"""The transfer benchmark's own parts: patches, weights, arms, resuming, table and curves."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import timm
import torch
from matplotlib.figure import Figure
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope

from vit_dense.weights import load_vit_weights

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def transfer():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / 'benchmarks')
        import transfer

        yield transfer


@pytest.fixture
def patches(transfer):
    import patch_classifier

    return patch_classifier


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


def test_windows_have_a_majority(patches):
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 32:] = 2
    mask[:40, :] = 255
    windows = patches.labelled_windows(mask, 16, scale=0.5)
    assert {label for label, _ in windows} == {0, 2}
    for label, (top, left, edge) in windows:
        window = mask[top : top + edge, left : left + edge]
        assert window.shape == (edge, edge)
        assert (window == label).mean() >= patches.MIN_SHARE


def test_patches_are_balanced_and_rgb(patches, args):
    images, labels = patches.load_patches(args, 'training', 10)
    assert images.shape == (20, 3, 32, 32)
    assert labels.bincount().tolist() == [10, 0, 10]
    light = images[labels == 2][0, :, 16, -1].tolist()
    assert light == [0, 128, 250]


def test_classifier_becomes_a_backbone(patches, args):
    (Path(args.work_dir) / 'classifier').mkdir(parents=True)
    result = patches.train_classifier(args)
    assert result['training_patches'] == 20
    model = timm.create_model('test_vit', depth=2, num_classes=0)
    report = load_vit_weights(model, result['checkpoint'])
    assert report.matched == 1
    assert report.resized == {'pos_embed': 'grid 2x2 -> 10x10'}
    assert sorted(report.ignored) == ['head.bias', 'head.weight']


def recording(seen):
    """A `train_model` that trains nothing: AP or mIoU of 3, then 7."""

    def train_model(config, seed):
        seen.append((seed, config.to_dict()))
        buffers = {'val/mIoU': ([3, 7], [1, 1]), 'val/coco/bbox_mAP': ([0.03, 0.07], [1, 1])}
        get_scalar = lambda name: SimpleNamespace(data=buffers[name])  # noqa: E731
        return SimpleNamespace(message_hub=SimpleNamespace(get_scalar=get_scalar))

    return train_model


@pytest.mark.parametrize('backbone', ['ViTAdapter', 'SimpleFeaturePyramid'])
def test_only_the_weights_differ(transfer, args, backbone, monkeypatch):
    seen = []

    monkeypatch.setattr(transfer, 'train_model', recording(seen))
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


NORMAL = '{"pretrained_cfg_overlay": {"mean": [0.5, 0, 0], "std": [0.5, 1, 1]}}'


@pytest.mark.parametrize(
    ('config', 'figure', 'backbone', 'model', 'kwargs', 'frozen_stages'),
    [
        ('vit_upernet_camvid.py', 'mIoU', 'TimmPyramid', 'test_resnet', NORMAL, 4),
        ('vit_atss_bccd.py', 'AP', 'SimpleFeaturePyramid', 'test_vit2', '{}', 8),
    ],
)
def test_arms_with_weights(
    transfer, tmp_path, monkeypatch, config, figure, backbone, model, kwargs, frozen_stages
):
    seen = []
    monkeypatch.setattr(transfer, 'train_model', recording(seen))
    weights = tmp_path / 'weights.pth'
    weights.write_bytes(b'1')
    argv = f'transfer.py --data-root data --config {ROOT}/configs/{config} --seeds 1 --channels 32 '
    argv += f'--iterations 100 --validations 2 --weights {weights} --work-dir {tmp_path}/work '
    argv += f'--model-name {model} --backbone {backbone}'
    monkeypatch.setattr(sys, 'argv', [*argv.split(), '--model-kwargs', kwargs])
    transfer.main()
    result = json.loads((tmp_path / 'work/transfer-frozen-0/result.json').read_text())
    assert (result[figure], result['curve'], result['seed']) == (7, [3, 7], 0)
    found = []
    for seed, one in seen:
        assert seed == 0
        backbone_config = one['model']['backbone']
        vit = backbone_config.get('vit', backbone_config)
        found.append((vit.pop('checkpoint'), vit.pop('frozen_stages', -1)))
        one.pop('work_dir')
        assert one == seen[0][1]
    assert found == [
        (None, -1),
        (str(weights), -1),
        (None, frozen_stages),
        (str(weights), frozen_stages),
    ]
    one = seen[0][1]
    assert one['train_cfg']['val_interval'] == 50
    assert one['optim_wrapper']['paramwise_cfg']['layer_decay_rate'] == 1.0
    if backbone == 'TimmPyramid':
        assert one['model']['data_preprocessor']['mean'] == [127.5, 0, 0]
        assert one['model']['data_preprocessor']['std'] == [127.5, 255, 255]
    with DefaultScope.overwrite_default_scope(one['default_scope']):
        built = MODELS.build(ConfigDict(one['model']))  # the widths fit
    maps = built.backbone(torch.rand(1, 3, 64, 96))
    if figure == 'AP':
        assert [x.shape[-2:] for x in built.neck(maps)] == [(8, 12), (4, 6), (2, 3), (1, 2)]
        built.eval().bbox_head.init_weights()
        outputs = built.bbox_head(built.neck(maps))
        meta = [{'img_shape': (64, 96)}]
        assert len(built.bbox_head.predict_by_feat(*outputs, meta)[0])  # though untrained
    else:
        assert built.decode_head(maps).shape[-2:] == (16, 24)

    weights.write_bytes(b'2')  # other weights of the same name
    with pytest.raises(SystemExit, match='other settings'):
        transfer.main()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ('--iterations 100 --validations 3', '--validations 3 must divide --iterations 100'),
        ('--backbone TimmPyramid', 'needs --weights'),
    ],
)
def test_options_that_contradict(transfer, monkeypatch, capsys, options, message):
    monkeypatch.setattr(sys, 'argv', f'transfer.py --data-root data {options}'.split())
    with pytest.raises(SystemExit):
        transfer.parse_args()
    assert message in capsys.readouterr().err


def test_curves(transfer, tmp_path, monkeypatch):
    import curves

    (tmp_path / 'settings.json').write_text('{"iterations": 100, "validations": 2}')
    for arm, seed, curve in (
        ('scratch', 0, [1, 2]),
        ('scratch', 1, [3, 6]),
        ('transfer', 0, [4, 8]),
    ):
        (tmp_path / f'{arm}-{seed}').mkdir()
        result = {'AP': curve[-1], 'curve': curve}
        (tmp_path / f'{arm}-{seed}' / 'result.json').write_text(json.dumps(result))
    axes = Figure().subplots()
    curves.draw(axes, 'title', tmp_path)
    random_start, pretrained = axes.get_lines()
    assert random_start.get_xydata().tolist() == [[50, 2], [100, 4]]
    assert pretrained.get_xydata().tolist() == [[50, 4], [100, 8]]
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((2 - 2**0.5, 4 + 8**0.5))
    assert axes.get_ylabel() == 'AP'
    curves.main(str(tmp_path / 'out.png'), f'A={tmp_path}', f'B={tmp_path}')
    assert cv2.imread(str(tmp_path / 'out.png')).shape[1] == 840


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


def test_missing_data(patches, args, tmp_path):
    args.data_root = str(tmp_path / 'nowhere')
    with pytest.raises(SystemExit, match='no images in'):
        patches.load_patches(args, 'training', 1)
