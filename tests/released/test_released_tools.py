"""Released models with real heads: converted, and evaluated as they are."""

from functools import reduce
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, init_default_scope
from processes import ROOT, TEST, run
from released_layouts import VIT_HEADS, released_state
from safetensors.torch import load_file

from examples.streets import CLASSES, PALETTE, DemoSpec, write_demo_dataset
from vit_dense.apis import convert_checkpoint, load_config

BACKBONE = """
_base_ = {base!r}
model = dict(
    backbone=dict(
        conv_inplane=8, deform_num_heads=2, deform_ratio=0.5, n_points=4,
        vit=dict(
            _delete_=True, type='ReleasedTimmViT', model_name='vit_tiny_patch16_224',
            model_kwargs=dict(init_values=1.0, img_size=64, embed_dim=32, depth=4,
                              num_heads={heads}))),
"""
SEGMENTATION = """
    decode_head=dict(in_channels=[32] * 4), auxiliary_head=dict(in_channels=32))
test_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(
        _delete_=True, type='CheckedSegDataset', data_root={data!r}, img_suffix='.png',
        metainfo=dict(classes={classes!r}, palette={palette!r}),
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=_base_.test_pipeline))
val_dataloader = test_dataloader
"""
DETECTION = """
    neck=dict(in_channels=[32] * 4))
"""


def write_config(folder, task, data=''):
    demo = {'segmentation': 'vit_upernet_demo.py', 'detection': 'vit_maskrcnn_demo.py'}[task]
    text = BACKBONE + (SEGMENTATION if task == 'segmentation' else DETECTION)
    base = str(ROOT / 'configs' / demo)
    path = folder / f'{task}.py'
    path.write_text(
        text.format(base=base, heads=VIT_HEADS, data=data, classes=CLASSES, palette=PALETTE)
    )
    return path


def build(path):
    config = load_config(str(path))
    init_default_scope(config.default_scope)
    return MODELS.build(config.model)


def write_released(path, model, task):
    """The heads of a model, which have had their names since mmseg 0.x, on a released backbone."""
    state = {f'backbone.{k}': t for k, t in released_state('ViTAdapter', task).items()}
    state |= {k: t for k, t in model.state_dict().items() if not k.startswith('backbone.')}
    torch.save({'meta': {'iter': 160000}, 'state_dict': state}, path)
    return state


@pytest.mark.parametrize(
    ('task', 'heads'),
    [
        ('segmentation', ('decode_head.psp_modules.3.1.conv.weight', 'auxiliary_head.conv_seg.bias',
                          'decode_head.fpn_bottleneck.bn.running_var')),
        ('detection', ('neck.fpn_convs.3.conv.bias', 'rpn_head.rpn_conv.weight',
                       'roi_head.bbox_head.shared_fcs.1.bias',
                       'roi_head.mask_head.upsample.weight')),
    ],
)  # fmt: skip
def test_a_released_model_with_its_heads(tmp_path, task, heads):
    config = write_config(tmp_path, task)
    model = build(config)
    file = write_released(tmp_path / 'released.pth', model, task)
    report = convert_checkpoint(
        str(tmp_path / 'released.pth'), str(tmp_path / 'ours.pth'), config=str(config)
    )
    assert (report.missing, report.unexpected, report.mismatched) == ([], [], {})
    assert f'released ViTAdapter, {task} model' in str(report)
    ours = torch.load(tmp_path / 'ours.pth')['state_dict']
    build(config).load_state_dict(ours, strict=True)
    assert all(torch.equal(ours[name], file[name]) for name in heads)
    gamma = ours['backbone.vit.model.blocks.1.ls2.gamma']
    assert torch.equal(gamma, file['backbone.blocks.1.gamma2'])
    # without a config the file tells what backbone it wants, and the heads pass
    plain = convert_checkpoint(str(tmp_path / 'released.pth'), str(tmp_path / 'plain.safetensors'))
    assert plain.missing == plain.unexpected == []
    converted = load_file(tmp_path / 'plain.safetensors')
    assert converted.keys() == ours.keys()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in converted.items())


@pytest.mark.slow
def test_a_released_file_is_evaluated_as_it_is(tmp_path):
    data = write_demo_dataset(tmp_path / 'data', DemoSpec(1, 2, 64, 96))
    config = write_config(tmp_path, 'segmentation', str(data))
    model = build(config)
    torch.nn.init.normal_(model.decode_head.conv_seg.weight)
    write_released(tmp_path / 'released.pth', model, 'segmentation')
    other = predict(model, config)  # the same heads on a backbone of chance
    done = run(TEST, config, 'released.pth', '--out', 'labels', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'recognised: released ViTAdapter, segmentation model' in done.stdout + done.stderr
    labels = {path.stem: cv2.imread(str(path), 0) for path in (tmp_path / 'labels').iterdir()}
    # renamed by hand, not by what is tested; its maps were compared with the release's elsewhere
    model.backbone.load_state_dict(ours_by_hand(model.backbone))
    expected = predict(model, config)
    assert labels.keys() == expected.keys()
    for name, image in expected.items():
        assert len(np.unique(image)) > 1
        assert (labels[name] == image).mean() > 0.999
        assert (other[name] != image).mean() > 0.1


def ours_by_hand(backbone):
    """The released backbone's tensors under our names."""
    released = released_state('ViTAdapter', 'segmentation')
    released['pos_embed'] = released['pos_embed'][:, 1:]
    back = (
        ('vit.model.', ''),
        ('.ffn.dwconv.', '.ffn.dwconv.dwconv.'),
        ('.ls1.gamma', '.gamma1'),
        ('.ls2.gamma', '.gamma2'),
    )
    return {
        name: released[reduce(lambda n, pair: n.replace(*pair), back, name)]
        for name in backbone.state_dict()
    }


def predict(model, config):
    """Labels of the test images by name, without the tool."""
    dataset = DATASETS.build(load_config(str(config)).test_dataloader.dataset)
    samples = {}
    for item in dataset:
        with torch.no_grad():
            (done,) = model.eval().test_step(pseudo_collate([item]))
        samples[Path(done.img_path).stem] = done.pred_sem_seg.data[0].numpy()
    return samples


def test_mistakes_are_told(tmp_path):
    state = released_state('ViTAdapter', 'segmentation')
    path = str(tmp_path / 'released.pth')
    torch.save(state, path)
    with pytest.raises(ValueError, match=r'out\.npz: write to a file that ends in \.pth'):
        convert_checkpoint(path, str(tmp_path / 'out.npz'))
    with pytest.raises(ValueError, match='is the source itself'):
        convert_checkpoint(path, path)
    del state['norm4.bias']
    torch.save(state, path)
    with pytest.raises(
        ValueError, match=r'missing \(1\): norm4\.bias(?s:.*)wants model\.backbone='
    ):
        convert_checkpoint(path, str(tmp_path / 'out.pth'))
    assert not (tmp_path / 'out.pth').exists()
