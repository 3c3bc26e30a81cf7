"""Exported segmentation models: equal to the model, or not written."""

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from exported_models import CLASSES, SEGMENTATION_STEPS, VIT, head_of, segmentor

from vit_dense.apis import TorchPredictor
from vit_dense.apis import export as export_module
from vit_dense.apis.export import ExportOptions, export_model
from vit_dense.export import ExportError
from vit_dense.export.pictures import drawn_pictures
from vit_dense.export.write import onnx_to_openvino
from vit_dense.runtime import load_exported

pytest.importorskip('onnxscript', reason='the extra [export] is not installed')
SUFFIX = {'onnx': '.onnx', 'openvino': '.xml'}
UPERNET = {'channels': 16, 'align_corners': False}
UNRESIZED = [one for one in SEGMENTATION_STEPS if one['type'] != 'Resize']
WIDTHS = {'feat_channels': 32, 'out_channels': 32, 'num_queries': 8}


@pytest.fixture(scope='module')
def linear() -> TorchPredictor:
    """On 64 x 128 px; the position embedding of 160 px is resized with antialiasing."""
    return segmentor()


@pytest.fixture(scope='module')
def exported(linear: TorchPredictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('exported') / 'linear.onnx'
    proof, description = export_model(linear, path)
    assert proof.images == 2
    assert proof.holds
    assert description.size == (64, 128)
    assert description.batch is None
    return path


def assert_same(
    model: TorchPredictor, path: Path, images: list[np.ndarray], *, is_constant: bool = False
) -> None:
    """Scores within 1e-4, labels equal but for at most one pixel in 2,000."""
    expected = model.predict(images, scores=True)
    found = load_exported(path).predict(images, scores=True)
    for one, other in zip(expected, found, strict=True):
        assert np.abs(one.scores - other.scores).max() < 1e-4
        assert (one.labels != other.labels).mean() < 5e-4
        assert is_constant or len(np.unique(one.labels)) > 1, 'it would prove nothing'
        np.testing.assert_array_equal(one.image, other.image)


def test_the_file_predicts_what_the_model_predicts(linear: TorchPredictor, exported: Path) -> None:
    images = drawn_pictures((64, 128)) + drawn_pictures((100, 200), count=1)
    assert_same(linear, exported, images)
    found = load_exported(exported)
    assert found.classes == CLASSES
    np.testing.assert_array_equal(found.palette, linear.palette)
    assert found.task == 'segmentation'
    path = exported.with_name('picture.png')
    cv2.imwrite(str(path), images[0])
    by_file, by_array = found.predict(str(path)), found.predict(images[0])
    np.testing.assert_array_equal(by_file.labels, by_array.labels)
    rgb = found.predict(images[0][..., ::-1], channel_order='rgb')
    np.testing.assert_array_equal(rgb.labels, by_array.labels)


def test_the_graph_has_neither_antialias_nor_source_paths(exported: Path) -> None:
    onnx = pytest.importorskip('onnx')
    graph = onnx.load(exported).graph
    for node in graph.node:
        assert not any(one.name == 'antialias' and one.i for one in node.attribute), node.name
        assert not node.metadata_props
    assert {one.op_type for one in graph.node} & {'If', 'Loop', 'Scan'} == set()


def test_another_size_is_refused_in_one_line(exported: Path) -> None:
    with pytest.raises(ValueError, match=r'64 x 64 pixels.*takes 64 x 128.*--size 64 64'):
        load_exported(exported).predict(drawn_pictures((64, 64))[0])


def test_openvino(
    linear: TorchPredictor, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph of the ONNX file, converted: tracing it again would take as long."""
    pytest.importorskip('openvino')

    def write(exportable: Any, description: Any, target: Path, *_: Any) -> None:
        onnx_to_openvino(exported, target, description)

    monkeypatch.setattr(export_module, '_write', write)
    path = tmp_path / 'linear.xml'
    export_model(linear, path, ExportOptions('openvino'))
    assert sorted(one.name for one in tmp_path.iterdir()) == ['linear.bin', 'linear.xml']
    assert_same(linear, path, drawn_pictures((64, 128)))


@pytest.mark.parametrize('kind', SUFFIX)
@pytest.mark.parametrize('damage', [0.02, float('nan')])
def test_a_file_that_differs_is_not_written(
    kind: str,
    damage: float,
    linear: TorchPredictor,
    exported: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / f'out{SUFFIX[kind]}'
    path.write_text('what was there before')

    def write(exportable: Any, description: Any, target: Path, *_: Any) -> None:
        shutil.copy(exported, target.with_suffix('.onnx'))

    monkeypatch.setattr(export_module, '_write', write)
    opened = load_exported(exported)
    monkeypatch.setattr(export_module, 'load_exported', lambda path: opened)
    bias = linear.module.decode_head.conv_seg.bias
    kept = bias.clone()
    bias[0] += damage
    try:
        with pytest.raises(
            ExportError, match=r'Nothing is written: PlainViT \+ LinearHead differs'
        ):
            export_model(linear, path, ExportOptions(kind))
    finally:
        bias.copy_(kept)
    assert path.read_text() == 'what was there before'
    assert list(tmp_path.iterdir()) == [path]


def test_refusals_come_before_the_export(linear: TorchPredictor, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r'ends in \.xml'):
        export_model(linear, tmp_path / 'x.onnx', ExportOptions('openvino'))
    turned = segmentor(steps=[{'type': 'LoadImageFromFile'}, {'type': 'RandomRotate'}])
    with pytest.raises(ExportError, match='step RandomRotate, which exported files cannot repeat'):
        export_model(turned, tmp_path / 'x.onnx')
    area = segmentor(steps=[{'type': 'Resize', 'scale': (64, 64), 'interpolation': 'area'}])
    with pytest.raises(ExportError, match=r"interpolation='area'.*'bilinear' only"):
        export_model(area, tmp_path / 'x.onnx')
    aligned = segmentor(head={'type': 'LinearHead', 'in_channels': 64, 'align_corners': True})
    with pytest.raises(ExportError, match='LinearHead with align_corners=True cannot be exported'):
        export_model(aligned, tmp_path / 'x.onnx')
    assert list(tmp_path.iterdir()) == []


def small_upernet() -> dict[str, Any]:
    return head_of('_base_/models/upernet_vit_adapter') | {'channels': 16}


@pytest.mark.slow
@pytest.mark.parametrize(
    ('backbone', 'sampling'),
    [
        ('SimpleFeaturePyramid', 'grid_sample'),
        ('ViTAdapter', 'grid_sample'),
        ('ViTAdapter', 'gather'),
        ('ViTCoMer', 'grid_sample'),
    ],
)
def test_adapters(backbone: str, sampling: str, tmp_path: Path) -> None:
    model = segmentor(backbone, {**small_upernet(), 'in_channels': [64] * 4})
    if backbone == 'SimpleFeaturePyramid':
        model = segmentor(backbone, {**small_upernet(), 'in_channels': [32] * 4})
    path = tmp_path / 'x.onnx'
    export_model(model, path, ExportOptions(gather_sampling=sampling == 'gather'))
    assert_same(model, path, drawn_pictures((64, 128), count=3))
    onnx = pytest.importorskip('onnx')
    operators = {node.op_type for node in onnx.load(path).graph.node}
    uses = backbone != 'SimpleFeaturePyramid' and sampling == 'grid_sample'
    assert ('GridSample' in operators) == uses


@pytest.mark.slow
def test_adapter_without_injectors(tmp_path: Path) -> None:
    head = {**small_upernet(), 'in_channels': [64] * 4}
    model = segmentor('ViTAdapter', head, inject=False, tap_norm=True)
    export_model(model, tmp_path / 'x.onnx')
    assert_same(model, tmp_path / 'x.onnx', drawn_pictures((64, 128), count=3))


@pytest.mark.slow
@pytest.mark.parametrize('kind', SUFFIX)
def test_adapter_in_windows(kind: str, tmp_path: Path) -> None:
    slide = {'mode': 'slide', 'crop_size': (64, 64), 'stride': (43, 43)}
    model = segmentor('ViTAdapter', {**small_upernet(), 'in_channels': [64] * 4}, test_cfg=slide)
    path = tmp_path / f'x{SUFFIX[kind]}'
    _, description = export_model(model, path, ExportOptions(kind))
    assert description.size == (64, 64)
    assert_same(model, path, drawn_pictures((64, 128)) + drawn_pictures((130, 90)))


@pytest.mark.slow
def test_pyramid_and_fcn_of_any_size(tmp_path: Path) -> None:
    head = {
        'type': 'FCNHead',
        'in_index': 3,
        'channels': 16,
        'num_convs': 1,
        'in_channels': 64,
    }
    model = segmentor('TimmPyramid', head)
    path = tmp_path / 'x.onnx'
    _, description = export_model(model, path, ExportOptions(dynamic_size=True))
    assert description.size is None
    pictures = drawn_pictures((64, 128)) + drawn_pictures((96, 96), count=1)
    assert_same(model, path, pictures, is_constant=True)


def test_a_file_that_fails_at_other_sizes_is_not_written(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of `UPerHead`, whose pooling has the sizes of the trace."""
    monkeypatch.setattr(
        export_module, '_write', lambda _, __, target, *___: shutil.copy(exported, target)
    )
    with pytest.raises(ExportError, match=r'fixed size only.*Leave out --dynamic-size'):
        export_model(
            segmentor(steps=UNRESIZED), tmp_path / 'x.onnx', ExportOptions(dynamic_size=True)
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_dpt_of_any_size(tmp_path: Path) -> None:
    """Its maps have to be resized where the grid of patches is odd, and the traced one is even."""
    head = {'type': 'DPTHead', 'channels': 8, 'post_process_channels': [8] * 4}
    head |= {'embed_dims': 64, 'in_index': [0, 1, 2, 3], 'input_transform': 'multiple_select'}
    head |= {'readout_type': 'project', 'align_corners': False}
    model = segmentor(
        'PlainViT', head, steps=UNRESIZED, vit=VIT, out_indices=[0, 1, 2, 3], output_cls_token=True
    )
    path = tmp_path / 'x.onnx'
    export_model(model, path, ExportOptions(dynamic_size=True, size=(64, 128)))
    for size in ((64, 128), (80, 112), (48, 33), (16, 16)):
        assert_same(model, path, drawn_pictures(size, count=1), is_constant=True)


def test_any_size_is_refused_if_the_images_have_one(tmp_path: Path) -> None:
    model = segmentor(steps=[{'type': 'LoadImageFromFile'}, {'type': 'Resize', 'scale': (64, 64)}])
    with pytest.raises(ExportError, match='all images have one size after the test pipeline'):
        export_model(model, tmp_path / 'x.onnx', ExportOptions(dynamic_size=True))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ('name', 'more'),
    [
        ('vit_small_patch16_dinov3', {}),
        ('eva02_tiny_patch14_224', {}),
        ('vit_small_patch16_rope_mixed_224', {}),
        ('vit_relpos_small_patch16_224', {}),
        ('beit_base_patch16_224', {}),
        ('samvit_base_patch16_224', {}),
        ('test_vit', {'window_size': 3}),
    ],
)
def test_families(name: str, more: dict[str, Any], tmp_path: Path) -> None:
    model = segmentor(vit=small_vit(name, **more))
    export_model(model, tmp_path / 'x.onnx')
    assert_same(model, tmp_path / 'x.onnx', drawn_pictures((64, 128), count=3))


def small_vit(name: str, **more: Any) -> dict[str, Any]:
    kwargs = {'embed_dim': 48, 'num_heads': 3, 'depth': 4} if name != 'test_vit' else {}
    return {'type': 'TimmViT', 'model_name': name, 'model_kwargs': kwargs, **more}


def small_mask2former(channels: list[int]) -> dict[str, Any]:
    head = head_of('_base_/models/mask2former_vit_adapter') | WIDTHS
    head.update(in_channels=channels)
    head['loss_cls']['class_weight'] = [1.0] * len(CLASSES) + [0.1]
    for part in (head['pixel_decoder'], head):
        part['positional_encoding']['num_feats'] = 16
    head['pixel_decoder']['norm_cfg']['num_groups'] = 4
    for part in (head['pixel_decoder']['encoder'], head['transformer_decoder']):
        part['num_layers'] = 2
        for name, layer in part['layer_cfg'].items():
            layer['embed_dims'] = 32
            layer.update({'feedforward_channels': 32} if name == 'ffn_cfg' else {'num_heads': 4})
    return head


def test_static_mask2former_is_the_same() -> None:
    from vit_dense.export import wrap

    model = segmentor('SimpleFeaturePyramid', small_mask2former([32] * 4))
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        meta = [{'img_shape': (64, 96), 'ori_shape': (64, 96)}]
        expected = model.module.encode_decode(image, meta)
        found = wrap(model.module, (64, 96)).module(image)
        again = model.module.encode_decode(image, meta)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(again, expected), 'the model is left as it was'


@pytest.mark.slow
def test_mask2former(tmp_path: Path) -> None:
    model = segmentor('SimpleFeaturePyramid', small_mask2former([32] * 4))
    _, description = export_model(model, tmp_path / 'x.onnx')
    assert description.batch == 1
    pictures = drawn_pictures((64, 128), count=3)
    assert_same(model, tmp_path / 'x.onnx', pictures, is_constant=True)


@pytest.mark.slow
@pytest.mark.parametrize('size', [None, 'any'])
def test_eomt(size: str | None, tmp_path: Path) -> None:
    """On images that are not whole patches; if exported so, of any size."""
    steps = [dict(step) for step in SEGMENTATION_STEPS]
    steps[1]['scale'] = (120, 60)
    model = segmentor('EoMT', {'type': 'EoMTHead', 'in_channels': 64}, steps=steps)
    path = tmp_path / 'x.onnx'
    proof, description = export_model(model, path, ExportOptions(dynamic_size=size == 'any'))
    assert proof.holds
    assert description.batch is None
    assert_same(model, path, drawn_pictures((60, 120), count=3), is_constant=True)
    if size == 'any':
        assert_same(model, path, drawn_pictures((60, 90), count=1), is_constant=True)


def test_scores_of_queries_are_shares() -> None:
    from vit_dense.export import wrap

    model = segmentor('EoMT', {'type': 'EoMTHead', 'in_channels': 64})
    assert wrap(model.module, (64, 96)).settings['scores'] == 'share'
    assert wrap(segmentor().module, (64, 96)).settings['scores'] == 'softmax'
