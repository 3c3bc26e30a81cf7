"""`vit-dense inspect`: sheets of every kind of backbone, and what it refuses."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from vit_dense import cli
from vit_dense.apis import inspect_model
from vit_dense.apis.inspection import _weights
from vit_dense.backbones import TimmViT
from vit_dense.inspection.report import Subject

ROOT = Path(__file__).resolve().parents[2]
VIT = {'type': 'TimmViT', 'model_name': 'test_vit', 'model_kwargs': {'depth': 4}}
XCIT = {
    'type': 'TimmViT',
    'model_name': 'xcit_nano_12_p8_224',
    'model_kwargs': {'embed_dim': 32, 'num_heads': 2, 'depth': 4},
}
CAIT = {
    'type': 'TimmViT',
    'model_name': 'cait_xxs24_224',
    'model_kwargs': {'embed_dim': 32, 'num_heads': 2, 'depth': 4},
}
ADAPTED = {'type': 'SimpleFeaturePyramid', 'out_channels': 32}
DEFORM = {'deform_num_heads': 4, 'conv_inplane': 8}
PAIRS = {'type': 'PlainViT', 'vit': VIT, 'num_maps': 4, 'output_cls_token': True}
PYRAMID = {'type': 'TimmPyramid', 'model_name': 'test_resnet'}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """64x96 pixels, a bright square in the lower right."""
    picture = np.random.default_rng(0).integers(0, 60, (64, 96, 3), np.uint8)
    picture[40:, 70:] = 250
    path = tmp_path / 'image.png'
    cv2.imwrite(str(path), picture)
    return path


def config(backbone: dict) -> Config:
    """The demo config with a head of one convolution on all maps of a backbone."""
    loaded = Config.fromfile(ROOT / 'configs' / 'vit_upernet_demo.py')
    loaded.model.backbone = {'_delete_': True, **backbone}
    loaded.model.backbone.pop('_delete_')
    maps = backbone.get('num_maps', 4)
    channels = {'PlainViT': [64], 'ViTAdapter': [64], 'TimmPyramid': [32]}
    loaded.model.decode_head = {
        'type': 'FCNHead',
        'in_channels': channels.get(backbone['type'], [32] * maps)[0],
        'in_index': 0,
        'channels': 8,
        'num_convs': 1,
        'concat_input': False,
        'num_classes': loaded.model.decode_head.num_classes,
    }
    if backbone.get('output_cls_token'):
        loaded.model.decode_head = {
            'type': 'DPTHead',
            'embed_dims': 64,
            'in_channels': [64] * 4,
            'in_index': [0, 1, 2, 3],
            'input_transform': 'multiple_select',
            'post_process_channels': [8, 8, 8, 8],
            'channels': 8,
            'num_classes': loaded.model.decode_head.num_classes,
        }
    loaded.model.auxiliary_head = None
    return loaded


@pytest.mark.parametrize(
    ('backbone', 'expected', 'refused'),
    [
        (
            {**ADAPTED, 'vit': {**VIT, 'window_size': 2}},
            ['features_map3_stride32', 'tokens_block03', 'attention_point', 'rollout_class_token'],
            [],
        ),
        ({'type': 'PlainViT', 'vit': VIT, 'num_maps': 2}, ['features_map1_stride16'], []),
        (
            {'type': 'PlainViT', 'vit': VIT, 'out_indices': [0, 2]},
            ['features_map1_stride16', 'tokens_block02', 'attention_point'],
            [],
        ),
        (
            {'type': 'ViTAdapter', 'vit': VIT, 'inject': False, 'tap_norm': True, **DEFORM},
            ['features_map3_stride32', 'tokens_block03', 'attention_point', 'rollout_class_token'],
            [],
        ),
        (PAIRS, ['features_map3_stride16'], []),
        ({**ADAPTED, 'vit': XCIT}, ['tokens_block00'], ['xcit_nano_12_p8_224.* no attention']),
        ({**ADAPTED, 'vit': CAIT}, ['tokens_block00'], ['cait_xxs24_224.* no attention rollout']),
        (PYRAMID, ['features_map0_stride4'], []),
    ],
    ids=['adapter', 'plain', 'taps', 'extract only', 'pairs', 'xcit', 'cait', 'pyramid'],
)
def test_every_kind_of_backbone(image, tmp_path, backbone, expected, refused):
    out = tmp_path / 'out'
    sheet, notes = inspect_model(config(backbone), None, image, out)
    assert sheet == out / 'sheet.png'
    written = {path.stem for path in out.glob('*.png')}
    assert {*expected, 'image', 'sheet', 'relevance'} <= written
    assert len(notes) == len(refused)
    for note, pattern in zip(notes, refused, strict=True):
        assert re.search(pattern, note)
    vit = backbone.get('vit')
    assert ('attention_point' in written) == (vit is not None and vit is not XCIT)
    assert ('rollout_point' in written) == (vit is not None and not refused)
    picture = cv2.imread(str(out / f'{expected[0]}.png'))
    assert picture.shape[1] == 640
    assert picture.shape[0] == round(640 * 64 / 96)


def test_pictures_are_upright(image, tmp_path):
    """The bright square is at the lower right of the features, too."""
    inspect_model(config(PYRAMID), None, image, tmp_path)
    red = cv2.imread(str(tmp_path / 'features_map0_stride4.png'))[..., 2].astype(float)
    assert red[300:, 500:].mean() > 2 * red[:200, :400].mean()


def test_the_point_is_found_in_the_padded_input():
    """An image of 200x100, resized to half and padded to 64 rows and 128 columns."""
    sample = SimpleNamespace(metainfo={'img_shape': (50, 100)})
    batch = {'inputs': torch.zeros(1, 3, 64, 128), 'data_samples': [sample]}
    image = np.zeros((100, 200, 3), np.uint8)
    vit = TimmViT('test_vit')
    expected = {(0, 0): (0, 0), (199, 99): (3, 6), (100, 50): (1, 3), (63, 33): (1, 1)}
    for point, (row, column) in expected.items():
        subject = Subject(None, batch, image, (), point, '', image)
        assert subject.queries(vit) == [1 + row * 8 + column, 0]


def test_the_sheet_says_where_the_weights_are_from():
    pretrained = {**ADAPTED, 'vit': {**VIT, 'pretrained': True}}
    texts = []
    for backbone in (pretrained, {**ADAPTED, 'vit': VIT}, PYRAMID):
        body = SimpleNamespace(module=SimpleNamespace(backbone=MODELS.build(backbone)))
        texts.append(_weights(body, 'config.py', None))
    assert texts == [
        'Untrained model; pretrained backbone test_vit',
        'Untrained model, random weights',
        'Untrained model, random weights',
    ]
    assert _weights(None, 'config.py', 'runs/best.pth') == 'Weights: best.pth'
    assert _weights(None, 'runs/best.pth', None) == 'Weights: best.pth'


def test_the_command(image, tmp_path, monkeypatch, capsys):
    path = tmp_path / 'config.py'
    config({**ADAPTED, 'vit': VIT}).dump(str(path))
    out = tmp_path / 'out'
    call = ['vit-dense', 'inspect', str(path), str(image), '--out', str(out)]

    def run(*options: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, 'argv', [*call, *options])
        code = cli.main()
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    code, text = run('--point', '90,60', '--class', '0', '--method', 'gradcam')
    assert code == 0
    assert f'{out}/sheet.png, and single pictures beside it' in text
    assert len(list(out.glob('*.png'))) == 27
    code, text = run('--point', '96,60')
    assert code == 2
    assert '--point 96,60' in text
    assert '96x64 pixels; give x in 0..95 and y in 0..63' in text
    code, text = run('--class', 'hores')
    assert code == 2
    assert "no class 'hores'" in text
    monkeypatch.setattr(sys, 'argv', [*call[:3], str(image), str(image), '--out', str(out)])
    assert cli.main() == 2
    assert 'name the model and one image' in capsys.readouterr().err
    monkeypatch.setattr(sys, 'argv', [*call, '--point', 'here'])
    with pytest.raises(SystemExit):
        cli.main()
    assert "'here': give column and row of a pixel" in capsys.readouterr().err


def test_a_foreign_backbone_is_refused(image, tmp_path):
    loaded = config(PYRAMID)
    loaded.model.backbone = {'type': 'mmseg.ResNet', 'depth': 18, 'norm_cfg': {'type': 'BN'}}
    loaded.model.decode_head.in_channels = 64
    with pytest.raises(ValueError, match=r'no pictures for .*ResNet'):
        inspect_model(loaded, None, image, tmp_path)
