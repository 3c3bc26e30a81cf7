"""Whole released models: heads of mmseg 0.x and mmdet 2.x by name, loaded and run by today's.

`recorded_heads.json` has the names and shapes of the heads of three tiny models that mmseg 0.20.2
and mmdet 2.22.0 built on the released backbone, and what they then computed on `image()`, on
`square()` for BEiT; values as in `released_layouts`.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import load_checkpoint
from released_layouts import VIT_HEADS, image, released_state, square, value

import vit_dense.detection
import vit_dense.segmentation  # noqa: F401 - registers what the configs name
from vit_dense.apis import convert_checkpoint
from vit_dense.released import recognise_released, rename_heads

CONFIGS = Path(__file__).parents[2] / 'configs'
RECORDED = json.loads(Path(__file__).with_name('recorded_heads.json').read_text())
SCOPES = {'UPerNet': 'mmseg', 'Mask R-CNN': 'mmdet', 'Mask2Former': 'mmseg'}
LEAVES = {
    'UPerNet': 'released/vit-adapter-b-deit_upernet_8xb2-160k_ade20k-512x512',
    'Mask R-CNN': 'released/vit-adapter-t-deit_mask-rcnn_8xb2-3x_coco',
    'Mask2Former': 'released/vit-adapter-l-beit_mask2former_8xb2-160k_ade20k-640x640',
}
ORIGINAL = (48, 80)  # of which the detector's images of 64x96 are enlargements
MAPS = [32] * 4


@pytest.fixture(params=LEAVES)
def name(request) -> Iterator[str]:
    with DefaultScope.overwrite_default_scope(SCOPES[request.param]):
        yield request.param


@pytest.fixture
def in_mmseg() -> Iterator[None]:
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.fixture
def in_mmdet() -> Iterator[None]:
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def released_file(name):
    """The state dict of a released model."""
    task = 'detection' if name == 'Mask R-CNN' else 'segmentation'
    variant = 'BEiT' if name == 'Mask2Former' else ''
    backbone = released_state('ViTAdapter', task, variant=variant)
    heads = RECORDED[name]['shapes'].items()
    return {f'backbone.{k}': t for k, t in backbone.items()} | {
        k: value(k, i, tuple(shape)) for i, (k, shape) in enumerate(heads)
    }


def build(name, **head):
    """The leaf's model, as small as the recorded one."""
    model = Config.fromfile(CONFIGS / f'{LEAVES[name]}.py').model
    settings = recognise_released(released_file(name)).settings
    settings['vit']['model_kwargs']['num_heads'] = VIT_HEADS
    model.backbone = ConfigDict(settings)
    model.test_cfg.update({'mode': 'whole'} if SCOPES[name] == 'mmseg' else {})
    {'UPerNet': thin_upernet, 'Mask R-CNN': thin_mask_rcnn, 'Mask2Former': thin_mask2former}[name](
        model
    )
    model.get('decode_head', {}).update(head)
    return MODELS.build(model).eval()


def thin_upernet(model):
    model.decode_head.update(in_channels=MAPS, channels=8, num_classes=5)
    model.auxiliary_head.update(in_channels=32, channels=8, num_classes=5)


def thin_mask_rcnn(model):
    model.neck.update(in_channels=MAPS, out_channels=16)
    model.rpn_head.update(in_channels=16, feat_channels=16)
    roi = model.roi_head
    roi.bbox_roi_extractor.out_channels = roi.mask_roi_extractor.out_channels = 16
    roi.bbox_head.update(in_channels=16, fc_out_channels=32, num_classes=3)
    roi.mask_head.update(in_channels=16, conv_out_channels=16, num_convs=2, num_classes=3)
    model.test_cfg.rcnn.max_per_img = 8


def thin_mask2former(model):
    head = model.decode_head
    head.update(in_channels=MAPS, feat_channels=32, out_channels=32, num_queries=6, num_classes=5)
    head.loss_cls.class_weight = [1.0] * 5 + [0.1]
    head.positional_encoding.num_feats = head.pixel_decoder.positional_encoding.num_feats = 16
    head.pixel_decoder.norm_cfg.num_groups = 4
    for part, layers in ((head.pixel_decoder.encoder, 1), (head.transformer_decoder, 3)):
        part.num_layers = layers
        for kind, layer in part.layer_cfg.items():
            widths = {'feedforward_channels': 64} if kind == 'ffn_cfg' else {'num_heads': 4}
            layer.update(embed_dims=32, **widths)


def load(model, name):
    """Loads the released file and returns the report."""
    released = recognise_released(released_file(name))
    state, report = released.plan(model.state_dict(), name)
    model.load_state_dict(state, strict=True)
    return report


def compare(ours, theirs, *, atol=2e-5):
    assert list(ours.shape) == theirs['shape']
    values = ours.flatten()[:: ours.numel() // 12][:12]
    torch.testing.assert_close(values, torch.tensor(theirs['values']), atol=atol, rtol=0)
    assert ours.mean().item() == pytest.approx(theirs['mean'], abs=1e-5)
    assert ours.std().item() == pytest.approx(theirs['std'], abs=1e-5)


def test_nothing_is_missing_or_left_over(name):
    report = load(build(name), name)
    assert (report.missing, report.unexpected, report.mismatched) == ([], [], {})
    assert (report.matched, report.outside) == (1, 0)


@torch.no_grad()
def test_upernet_and_fcn(in_mmseg):
    model = build('UPerNet')
    load(model, 'UPerNet')
    maps = model.extract_feat(image())
    for head, recorded in RECORDED['UPerNet']['outputs'].items():
        compare(getattr(model, head)(maps), recorded)


@torch.no_grad()
def test_mask_rcnn(in_mmdet):
    from mmdet.structures import DetDataSample

    model = build('Mask R-CNN')
    load(model, 'Mask R-CNN')
    recorded = RECORDED['Mask R-CNN']['outputs']
    maps = model.extract_feat(image())
    compare(maps[0], recorded['neck'])
    scores, deltas = model.rpn_head(maps)
    for level in (0, 4):
        compare(scores[level], recorded[f'rpn scores {level}'])
        compare(deltas[level], recorded[f'rpn deltas {level}'])
    size = tuple(image().shape[-2:])
    scale = (size[1] / ORIGINAL[1], size[0] / ORIGINAL[0])
    meta = {'img_shape': size, 'ori_shape': ORIGINAL, 'scale_factor': scale}
    samples = [DetDataSample(metainfo={**meta, 'batch_input_shape': size}) for _ in range(2)]
    for sample, theirs in zip(model.predict(image(), samples), recorded['found'], strict=True):
        found = sample.pred_instances
        order = found.labels.argsort(stable=True)  # mmdet 2.x gives them class by class
        assert found.labels[order].tolist() == theirs['labels']
        boxes, scores = torch.tensor(theirs['boxes']), torch.tensor(theirs['scores'])
        torch.testing.assert_close(found.bboxes[order], boxes, atol=2e-3, rtol=0)
        torch.testing.assert_close(found.scores[order], scores, atol=1e-5, rtol=0)
        areas = found.masks[order].sum((1, 2))
        assert (areas - torch.tensor(theirs['areas'])).abs().max() <= 1


@torch.no_grad()
def test_mask2former(in_mmseg):
    model = build('Mask2Former')
    load(model, 'Mask2Former')
    recorded = RECORDED['Mask2Former']['outputs']
    size = tuple(square().shape[-2:])
    classes, masks = model.decode_head(model.extract_feat(square()), [None, None])
    compare(classes[-1], recorded['classes'])
    compare(masks[-1], recorded['masks'])
    compare(model.encode_decode(square(), [{'img_shape': size}] * 2), recorded['test'])


@torch.no_grad()
def test_mask2former_in_sliding_windows(in_mmseg):
    """Images that were resized to a multiple have a `pad_shape`, which is no window's size."""
    model = build('Mask2Former')
    load(model, 'Mask2Former')
    model.test_cfg.update(mode='slide', crop_size=(64, 64), stride=(64, 32))
    size = tuple(image().shape[-2:])
    meta = {'img_shape': size, 'pad_shape': size, 'ori_shape': size}
    found = model.inference(image(), [dict(meta) for _ in image()])
    whole = [{'img_shape': (64, 64)}] * 2
    left, right = (model.encode_decode(image()[..., i : i + 64], whole) for i in (0, 32))
    expected = torch.cat((left[..., :32], (left[..., 32:] + right[..., :32]) / 2), dim=-1)
    torch.testing.assert_close(found[..., :64], expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(found[..., 64:], right[..., 32:], atol=1e-6, rtol=0)


@torch.no_grad()
def test_mmseg_s_own_mask2former_enlarges_before_it_makes_probabilities(in_mmseg):
    """Which makes a difference where masks are enlarged, and none where they are not."""
    ours, mmsegs = build('Mask2Former'), build('Mask2Former', type='Mask2FormerHead')
    load(ours, 'Mask2Former')
    load(mmsegs, 'Mask2Former')
    maps = ours.extract_feat(square())
    for size, differs in (((64, 64), True), ((16, 16), False)):
        a, b = (m.decode_head.predict(maps, [{'img_shape': size}] * 2, {}) for m in (ours, mmsegs))
        assert ((a - b).abs().max() > 1e-4) == differs


def test_without_our_hooks(name, tmp_path):
    """As `init_model` of mmseg and `init_detector` of mmdet load, and PyTorch itself."""
    expected = build(name)
    load(expected, name)
    by_torch, by_mmengine = build(name), build(name)
    by_torch.load_state_dict(released_file(name), strict=True)
    torch.save({'meta': {}, 'state_dict': released_file(name)}, tmp_path / 'file.pth')
    load_checkpoint(by_mmengine, str(tmp_path / 'file.pth'), map_location='cpu', strict=True)
    for loaded in (by_torch.state_dict(), by_mmengine.state_dict()):
        for key, tensor in expected.state_dict().items():
            assert torch.equal(loaded[key], tensor), key


def test_mmseg_s_own_mask2former_needs_our_hooks_or_the_tool(in_mmseg, tmp_path):
    torch.save({'state_dict': released_file('Mask2Former')}, tmp_path / 'file.pth')
    model = build('Mask2Former', type='Mask2FormerHead')
    with pytest.raises(RuntimeError, match=r'Missing key.*transformer_decoder(?s:.*)attentions'):
        model.load_state_dict(released_file('Mask2Former'))
    convert_checkpoint(str(tmp_path / 'file.pth'), str(tmp_path / 'ours.pth'))
    model.load_state_dict(torch.load(tmp_path / 'ours.pth')['state_dict'], strict=True)


def test_only_transformers_of_mask2former_are_renamed():
    layer = 'transformer_decoder.layers.8'
    old = {
        f'panoptic_head.{layer}.attentions.0.attn.in_proj_bias': 'cross_attn.attn.in_proj_bias',
        f'panoptic_head.{layer}.attentions.1.attn.in_proj_bias': 'self_attn.attn.in_proj_bias',
        f'panoptic_head.{layer}.ffns.0.layers.1.bias': 'ffn.layers.1.bias',
    }
    kept = [
        'decode_head.pixel_decoder.encoder.layers.0.self_attn.value_proj.bias',
        f'decode_head.{layer}.norms.2.bias',
        f'backbone.{layer}.attentions.0.attn.in_proj_bias',
        'bbox_head.transformer.decoder.layers.0.attentions.0.attn.in_proj_bias',
    ]
    tensors = {key: torch.ones(i) for i, key in enumerate([*old, *kept])}
    renamed = rename_heads(tensors)
    assert list(renamed) == [*(f'panoptic_head.{layer}.{part}' for part in old.values()), *kept]
    assert [t.numel() for t in renamed.values()] == list(range(len(tensors)))
    assert rename_heads(renamed).keys() == renamed.keys()
