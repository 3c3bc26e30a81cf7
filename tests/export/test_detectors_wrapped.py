"""Detectors as modules of tensors, with the runtime's selection: the detections of mmdet."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported_models import CLASSES, detector
from leaves import CONFIGS
from mmengine.config import Config

from vit_dense.apis import TorchPredictor
from vit_dense.apis import export as export_module
from vit_dense.apis.export import export_model
from vit_dense.export import ExportError, compare, wrap
from vit_dense.export.pictures import drawn_pictures
from vit_dense.runtime import Detections
from vit_dense.runtime.exported import ExportedDetector
from vit_dense.runtime.file_description import FileDescription

SIZE = (96, 128)
FILES = {
    'RetinaNet': 'retinanet_vit_adapter',
    'ATSS': 'atss_vit_adapter',
    'FasterRCNN': 'faster_rcnn_vit_adapter',
    'MaskRCNN': 'mask_rcnn_vit_adapter',
}
STEPS = [
    {'type': 'LoadImageFromFile'},
    {'type': 'Resize', 'scale': (128, 96), 'keep_ratio': True},
    {'type': 'PackDetInputs', 'meta_keys': ('img_shape', 'ori_shape', 'scale_factor')},
]


def small(kind: str) -> TorchPredictor:
    """The detector of the config on four tiny blocks, with scores that differ."""
    config = Config.fromfile(CONFIGS / '_base_' / 'models' / f'{FILES[kind]}.py')
    model = config.model
    vit = {'type': 'TimmViT', 'model_name': 'test_vit', 'model_kwargs': {'depth': 4}}
    model.backbone = {'type': 'SimpleFeaturePyramid', 'vit': vit, 'out_channels': 32}
    for neck in model.neck if isinstance(model.neck, list) else [model.neck]:
        # Where the config's adapter leaves out stride 4, the neck does so here.
        neck.update(in_channels=[32] * 4, start_level=4 - len(neck.in_channels))
    model.data_preprocessor.update(mean=[127.5] * 3, std=[60.0] * 3)
    if 'roi_head' in model:
        model.roi_head.bbox_head.num_classes = len(CLASSES)
        model.rpn_head.anchor_generator.scales = [4]
        model.test_cfg.rpn.update(nms_pre=50, max_per_img=40)
        model.test_cfg.rcnn.update(score_thr=0.05, max_per_img=20)
        if kind == 'MaskRCNN':
            model.roi_head.mask_head.num_classes = len(CLASSES)
    else:
        model.bbox_head.num_classes = len(CLASSES)
        model.test_cfg.update(score_thr=0.05, nms_pre=100, max_per_img=20)
    found = detector(config, STEPS)
    spread_scores(found.module)
    return found


def spread_scores(module: Any) -> None:
    """Make class scores, which start almost equal, differ by more than rounding."""
    for name in ('bbox_head.retina_cls', 'bbox_head.atss_cls', 'rpn_head.rpn_cls'):
        if any(name == one for one, _ in module.named_modules()):
            layer = module.get_submodule(name)
            torch.nn.init.normal_(layer.weight, std=0.3)
            torch.nn.init.zeros_(layer.bias)
    if hasattr(module, 'roi_head'):
        torch.nn.init.normal_(module.roi_head.bbox_head.fc_cls.weight, std=0.3)
        torch.nn.init.normal_(module.rpn_head.rpn_reg.weight, std=0.1)


class ModuleEngine:
    """Runs the wrapped module instead of a file."""

    metadata = None

    def __init__(self, module: torch.nn.Module, outputs: tuple[str, ...]) -> None:
        self.module, self.outputs = module, outputs

    @torch.no_grad()
    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = self.module(**{k: torch.from_numpy(v) for k, v in inputs.items()})
        return {k: v.numpy() for k, v in zip(self.outputs, found, strict=True)}


@pytest.mark.parametrize('kind', FILES)
def test_wrapped_detectors_find_the_same(kind: str) -> None:
    model = small(kind)
    exportable = wrap(model.module, SIZE)
    steps = export_module.preprocessing_of(STEPS, model.module)
    description = FileDescription(
        'detection', CLASSES, ((0, 0, 0),) * 5, SIZE, exportable.batch, steps, exportable.settings
    )
    engine = ModuleEngine(exportable.module, exportable.outputs)
    exported = ExportedDetector(engine, description)
    images = drawn_pictures((192, 256)) + drawn_pictures((50, 120), count=1)
    with export_module._padding_to(model.module, SIZE):
        proof = compare(model, exported, images)
        expected: Detections = model.predict(images[0])
    assert proof.compared > 20
    assert proof.score_error < 1e-5
    assert proof.label_share == 0
    assert proof.box_error < 1e-2
    found = exported.predict(images[0])
    assert len(found) == len(expected) > 3
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    if kind == 'MaskRCNN':
        assert found.masks.shape == expected.masks.shape
        assert found.masks.any()
        assert (found.masks.sum() - expected.masks.sum()) / expected.masks.sum() < 1e-3


def test_refused_by_name() -> None:
    cascade = Config.fromfile(CONFIGS / '_base_' / 'models' / 'cascade_mask_rcnn_vit_adapter.py')
    cascade.model.backbone.vit.update(model_name='test_vit', pretrained=False)
    cascade.model.backbone.update(deform_num_heads=4, conv_inplane=16)
    cascade.model.neck.in_channels = [64] * 4
    model = detector(cascade, STEPS)
    with pytest.raises(ExportError, match=r'CascadeRCNN cannot be exported: .*ATSS'):
        wrap(model.module, SIZE)
    soft = small('RetinaNet')
    soft.module.bbox_head.test_cfg.nms.type = 'soft_nms'
    with pytest.raises(ExportError, match=r'RetinaNet with nms=.*soft_nms.*cannot be exported'):
        wrap(soft.module, SIZE)
    with pytest.raises(ExportError, match='RetinaNet cannot be exported for any size'):
        wrap(small('RetinaNet').module, None)


@pytest.mark.slow
@pytest.mark.parametrize('kind', FILES)
def test_exported_detectors(kind: str, tmp_path: Path) -> None:
    pytest.importorskip('onnxscript')
    model = small(kind)
    proof, description = export_model(model, tmp_path / 'x.onnx')
    assert description.size == SIZE
    assert proof.compared > 20
    assert proof.label_share == 0


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['ATSS', 'MaskRCNN'])
def test_openvino_detectors(kind: str, tmp_path: Path) -> None:
    pytest.importorskip('openvino')
    from vit_dense.apis.export import ExportOptions

    proof, _ = export_model(small(kind), tmp_path / 'x.xml', ExportOptions('openvino'))
    assert proof.label_share == 0
