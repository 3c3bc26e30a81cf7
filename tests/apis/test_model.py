"""Predictions of loaded models equal those of the test tool, from every source."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from PIL import Image
from processes import ROOT, run

import vit_dense.detection
import vit_dense.segmentation  # noqa: F401
from examples.streets import DemoSpec, write_demo_dataset
from vit_dense.apis import TorchPredictor, evaluate_model, load_config, load_model
from vit_dense.apis.convert_results import to_detections
from vit_dense.apis.devices import free_memory
from vit_dense.apis.model import _num_classes
from vit_dense.runtime import InputError, PredictOptions
from vit_dense.runtime.inputs import expand

SEGMENTATION = 'configs/vit_upernet_demo.py'
DETECTION = 'configs/vit_maskrcnn_demo.py'


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three drawn scenes of 64x96 pixels."""
    return write_demo_dataset(tmp_path_factory.mktemp('streets'), DemoSpec(1, 3, 64, 96))


@pytest.fixture(scope='module')
def images(data: Path) -> list[Path]:
    return sorted((data / 'images/validation').iterdir())


def make_config(name: str, data: Path) -> Config:
    config = load_config(str(ROOT / name), work_dir=str(data / 'work'))
    for split in ('train', 'val', 'test'):
        config[f'{split}_dataloader'].update(num_workers=0, persistent_workers=False)
        config[f'{split}_dataloader'].dataset.data_root = str(data)
    if name == DETECTION:
        config.model.test_cfg.rcnn.score_thr = 0.0
    config.default_hooks.pictures = None
    return config


def write_checkpoint(config: Config, path: Path, **meta: Any) -> Path:
    """Write what training would: random weights, the config and the names of the classes."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        model = MODELS.build(config.model)
        model.init_weights()
    classes = config.test_dataloader.dataset.metainfo.classes
    meta = {'cfg': config.pretty_text, 'dataset_meta': {'classes': tuple(classes)}, **meta}
    torch.save({'state_dict': model.state_dict(), 'meta': meta}, path)
    return path


@pytest.fixture(scope='module')
def segmentation(data: Path) -> tuple[Config, Path]:
    config = make_config(SEGMENTATION, data)
    return config, write_checkpoint(config, data / 'segmentation.pth')


@pytest.fixture(scope='module')
def detection(data: Path) -> tuple[Config, Path]:
    config = make_config(DETECTION, data)
    return config, write_checkpoint(config, data / 'detection.pth')


@pytest.fixture(scope='module')
def segmentor(segmentation: tuple[Config, Path]) -> TorchPredictor:
    return load_model(*segmentation, device='cpu')


def test_segmentation_equals_the_test_tool(
    tmp_path: Path, segmentation: tuple[Config, Path], images: list[Path]
) -> None:
    config, checkpoint = segmentation
    evaluate_model(make_config(SEGMENTATION, checkpoint.parent), str(checkpoint), out=str(tmp_path))
    results = load_model(config, checkpoint).predict(images[0].parent, batch_size=1)
    assert len(results) == len(images) == 3
    for path, result in zip(images, results, strict=True):
        written = cv2.imread(str(tmp_path / f'{path.stem}.png'), cv2.IMREAD_UNCHANGED)
        assert (result.labels == written).all()
        assert result.labels.dtype == np.uint8


def test_detection_equals_the_test_tool(
    tmp_path: Path, detection: tuple[Config, Path], images: list[Path]
) -> None:
    checkpoint = detection[1]
    out = tmp_path / 'raw.pkl'
    evaluate_model(make_config(DETECTION, checkpoint.parent), str(checkpoint), out=str(out))
    raw = {Path(one['img_path']).stem: one for one in pickle.loads(out.read_bytes())}
    for path, result in zip(images, load_model(checkpoint).predict(images), strict=True):
        expected = raw[path.stem]['pred_instances']
        assert len(result) == len(expected['scores']) > 0
        assert (np.diff(result.scores) <= 0).all()
        order = np.argsort(-expected['scores'].numpy(), kind='stable')
        assert np.abs(result.boxes - expected['bboxes'].numpy()[order]).max() < 1e-3
        assert (result.labels == expected['labels'].numpy()[order]).all()
        assert result.masks is not None
        assert result.masks.shape == (len(result), 64, 96)
        assert result.size == (64, 96)


def test_every_source_gives_the_same(segmentor: TorchPredictor, images: list[Path]) -> None:
    expected = segmentor.predict(images[0])
    bgr = cv2.imread(str(images[0]))
    for result in (
        segmentor.predict(bgr),
        segmentor.predict(bgr[..., ::-1], channel_order='rgb'),
        segmentor.predict(Image.open(images[0])),
        segmentor.predict([str(images[0]), bgr], batch_size=2)[1],
        next(segmentor.predict(iter([bgr]))),
    ):
        assert (result.labels == expected.labels).all()
        assert (result.draw() == expected.draw()).all()
    assert (expected.image, segmentor.classes[0]) == (str(images[0]), 'sky')


def test_scores_are_probabilities(segmentor: TorchPredictor, images: list[Path]) -> None:
    result = segmentor.predict(images[0], scores=True)
    assert result.scores.shape == (8, 64, 96)
    assert np.abs(result.scores.sum(axis=0) - 1).max() < 1e-5
    assert (result.scores.argmax(axis=0) == result.labels).all()


def test_augmentation_equals_the_test_tool(
    tmp_path: Path, segmentation: tuple[Config, Path], images: list[Path]
) -> None:
    config, checkpoint = segmentation
    tested = make_config(SEGMENTATION, checkpoint.parent)
    evaluate_model(tested, str(checkpoint), out=str(tmp_path), tta=True)
    model = load_model(config, checkpoint)
    for path, result in zip(images, model.predict(images, tta=True), strict=True):
        written = cv2.imread(str(tmp_path / f'{path.stem}.png'), cv2.IMREAD_UNCHANGED)
        assert (result.labels == written).all()
    with pytest.raises(ValueError, match='Leave tta out'):
        model.predict(images, tta=True, scores=True)


def test_mixed_precision(segmentor: TorchPredictor, images: list[Path]) -> None:
    full = segmentor.predict(images[0], scores=True).scores
    half = segmentor.predict(images[0], scores=True, dtype='bfloat16').scores
    assert 0 < np.abs(full - half).max() < 0.05
    with pytest.raises(ValueError, match="dtype='int8'"):
        segmentor.predict(images[0], dtype='int8')


def test_bad_files_are_told_in_one_line(
    tmp_path: Path, segmentor: TorchPredictor, images: list[Path]
) -> None:
    (tmp_path / 'cut.png').write_bytes(images[0].read_bytes()[:-200])
    (tmp_path / 'page.png').write_bytes(b'<html></html>')
    (tmp_path / 'good.png').write_bytes(images[0].read_bytes())
    cv2.imwrite(str(tmp_path / 'wide.png'), np.zeros((1, 30000, 3), np.uint8))
    deep = cv2.imread(str(images[0])).astype(np.uint16) * 16  # would become black
    cv2.imwrite(str(tmp_path / 'deep.png'), deep)
    found = dict(segmentor.iter_predictions(expand(tmp_path), PredictOptions(batch_size=4)))
    messages = {i.name: r.message for i, r in found.items() if isinstance(r, InputError)}
    assert messages.keys() == {'cut.png', 'page.png', 'wide.png', 'deep.png'}
    assert 'LoadBands' in messages['deep.png']
    assert all(text.startswith(str(tmp_path / name)) for name, text in messages.items())
    assert not any('\n' in text for text in messages.values())


def test_a_model_without_palette_has_colours(segmentation: tuple[Config, Path]) -> None:
    config, checkpoint = segmentation
    config = config.copy()
    del config.test_dataloader.dataset.metainfo['palette']
    palette = load_model(config, checkpoint).palette
    assert len(np.unique(palette, axis=0)) == 8


def names(config: Config) -> list[str]:
    return list(config.test_dataloader.dataset.metainfo.classes)


def test_other_class_names_are_refused_with_both_lists(segmentation: tuple[Config, Path]) -> None:
    config, checkpoint = segmentation
    turned = config.copy()
    turned.test_dataloader.dataset.metainfo.classes = names(config)[::-1]
    for load in (
        lambda: load_model(turned, checkpoint),
        lambda: evaluate_model(turned, str(checkpoint)),
    ):
        with pytest.raises(ValueError, match='in another order') as caught:
            load()
        assert ', '.join(names(config)) in str(caught.value)
        assert ', '.join(names(config)[::-1]) in str(caught.value)


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        (('absent.pth',), 'Checkpoint not found'),
        (('absent.py', 'absent.pth'), 'Config not found'),
        (('vit_dense::vit_upernet_demo.py',), 'name the checkpoint'),
        (('vit_dense::vit_upernet_dem.py', 'absent.pth'), 'did you mean vit_upernet_demo.py'),
        (('vit_dense::vit_upernet_demo.py', 'absent.pth', 'cuda:7'), 'PyTorch sees'),
        (('vit_dense::vit_upernet_demo.py', 'absent.pth', 'gpu'), "device='gpu'"),
    ],
)
def test_mistakes(given: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_model(*given)


def test_a_checkpoint_of_another_model(
    segmentation: tuple[Config, Path], detection: tuple[Config, Path]
) -> None:
    with pytest.raises(ValueError, match='Give the checkpoint that this config trained'):
        load_model(segmentation[0], detection[1])


def rewrite(checkpoint: Path, target: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    content = torch.load(checkpoint, weights_only=True)
    change(content['meta'])
    torch.save(content, target)
    return target


def test_a_checkpoint_without_config(tmp_path: Path, segmentation: tuple[Config, Path]) -> None:
    path = rewrite(segmentation[1], tmp_path / 'a.pth', lambda meta: meta.pop('cfg'))
    with pytest.raises(ValueError, match='carries no config'):
        load_model(path)


def test_the_config_in_a_checkpoint_is_not_run(
    tmp_path: Path, segmentation: tuple[Config, Path]
) -> None:
    harm = f'import pathlib\npathlib.Path({str(tmp_path / "harm")!r}).touch()\n'
    for code in (harm, f"x = __import__('pathlib').Path({str(tmp_path / 'harm')!r}).touch()\n"):
        path = rewrite(
            segmentation[1],
            tmp_path / 'a.pth',
            lambda meta, c=code: meta.update(cfg=c + meta['cfg']),
        )
        with pytest.raises(ValueError, match='not made of plain values'):
            load_model(path)
    assert not (tmp_path / 'harm').exists()


@pytest.mark.parametrize('name', [SEGMENTATION, DETECTION, 'configs/vit_maskrcnn_coco.py'])
def test_the_config_in_a_checkpoint_is_read_whole(name: str) -> None:
    from vit_dense.apis.checkpoint_config import config_of_checkpoint

    config = load_config(str(ROOT / name))
    read = config_of_checkpoint({'meta': {'cfg': config.pretty_text}}, 'a.pth')
    as_json = [json.dumps(one.to_dict(), sort_keys=True) for one in (read, config)]
    assert as_json[0] == as_json[1]


def test_without_checkpoint_weights_are_initialised(segmentation: tuple[Config, Path]) -> None:
    model = load_model(segmentation[0], require_checkpoint=False)
    assert not model.module.training


def test_a_segmentation_larger_than_memory_is_refused(
    segmentor: TorchPredictor, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two images of 64x96 pixels and 8 classes have scores of 2 x 624 KiB."""
    one = 13 * 8 * 64 * 96
    monkeypatch.setattr('vit_dense.apis.model.free_memory', lambda device: one)
    sizes: list[int] = []
    hook = segmentor.module.backbone.register_forward_pre_hook(  # type: ignore[operator, union-attr]
        lambda _, args: sizes.append(len(args[0]))
    )
    found = segmentor.predict(list(map(str, images[:2])))
    hook.remove()
    assert len(found) == 2
    assert sizes == [1, 1]  # one by one instead of together
    monkeypatch.setattr('vit_dense.apis.model.free_memory', lambda device: one - 1)
    with pytest.raises(ValueError, match=r'96x64 pixels and 8 classes need .* use --tile') as error:
        segmentor.predict(str(images[0]))
    assert '\n' not in str(error.value)


def test_free_memory_of_this_machine() -> None:
    free = free_memory(torch.device('cpu'))
    assert free is None or 2**24 < free < 2**50


@pytest.mark.parametrize('absent', ['default_scope', 'model', 'test_dataloader'])
def test_a_part_of_a_config_is_refused(absent: str, segmentation: tuple[Config, Path]) -> None:
    config = Config({k: v for k, v in segmentation[0].to_dict().items() if k != absent})
    with pytest.raises(ValueError, match=f'has no {absent}, which prediction needs'):
        load_model(config, segmentation[1])


def test_two_checkpoints_are_refused(segmentation: tuple[Config, Path]) -> None:
    with pytest.raises(ValueError, match='two checkpoints'):
        load_model(segmentation[1], segmentation[1])


def test_an_image_of_one_line_is_told(segmentor: TorchPredictor) -> None:
    with pytest.raises(ValueError, match='an edge is resized to less than 1 pixel'):
        segmentor.predict(np.zeros((1, 30_000, 3), np.uint8))


def test_classes_of_data_sets_of_the_libraries(tmp_path: Path) -> None:
    """In a new process, which has imported no data set."""
    code = (
        'from mmengine.config import Config\n'
        'from vit_dense.apis.model import _dataset_meta\n'
        "for scope, kind in (('mmdet', 'CocoDataset'), ('mmseg', 'CityscapesDataset')):\n"
        '    data = dict(dataset=dict(type=kind))\n'
        '    config = Config(dict(default_scope=scope, test_dataloader=data))\n'
        "    classes = _dataset_meta(config)['classes']\n"
        '    print(len(classes), classes[0])'
    )
    done = run('-c', code, cwd=tmp_path)
    assert done.stdout.splitlines()[-2:] == ['80 person', '19 road'], done.stderr


def test_classes_of_a_cascade_are_counted() -> None:
    model, head = torch.nn.Module(), torch.nn.Module()
    head.num_classes = 5  # type: ignore[assignment]
    model.roi_head = torch.nn.Module()
    model.roi_head.bbox_head = torch.nn.ModuleList([torch.nn.Module(), head])
    assert _num_classes(model) == 5


def test_a_panoptic_model_is_told() -> None:
    sample = DetDataSample(metainfo={'ori_shape': (4, 4)})
    with pytest.raises(ValueError, match='panoptic'):
        to_detections(sample, ('car',), np.zeros((1, 3), np.uint8), None)
