"""Exported files: what they say, foreign ones, and use without PyTorch."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vit_dense.runtime import load_exported
from vit_dense.runtime.file_description import (
    METADATA_KEY,
    FileDescription,
    Preprocessing,
    Resize,
)
from vit_dense.runtime.tiles import TileOptions, segment_tiled

DESCRIPTION = FileDescription(
    task='segmentation',
    classes=('road', 'sky'),
    palette=((1, 2, 3), (4, 5, 6)),
    size=(8, 8),
    batch=None,
    preprocessing=Preprocessing((Resize((8, 8)),), (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), True),
    postprocessing={
        'crop_size': None,
        'stride': None,
        'threshold': None,
        'scores': 'softmax',
    },
    product_version='9.9',
)
# What the graph below computes on a normalised image: two logits of a pixel.
BLOCKED = """
import sys
for name in ('torch', 'mmengine', 'timm', 'mmseg', 'mmdet', 'mmcv', 'torchvision'):
    sys.modules[name] = None
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name == 'torch' else real(name, *a)
import numpy as np
from vit_dense.runtime import load_exported
print(load_exported(sys.argv[1]).predict(np.full((8, 8, 3), 7, np.uint8)).areas())
from vit_dense.cli import main
sys.argv = ['vit-dense', 'predict', sys.argv[1], sys.argv[2], '--out', sys.argv[3]]
sys.exit(main())
"""


def write_graph(path: Path, metadata: str | None) -> Path:
    """A graph of two classes: the logits are the first and the second channel."""
    helper = pytest.importorskip('onnx.helper')
    onnx = pytest.importorskip('onnx')
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node('Slice', ['image', 'starts', 'ends', 'axes'], ['logits'])],
        'graph',
        [helper.make_tensor_value_info('image', kind, ['n', 3, 8, 8])],
        [helper.make_tensor_value_info('logits', kind, ['n', 2, 8, 8])],
        [
            helper.make_tensor(name, onnx.TensorProto.INT64, [1], [value])
            for name, value in (('starts', 0), ('ends', 2), ('axes', 1))
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=9)
    if metadata is not None:
        helper.set_model_props(model, {METADATA_KEY: metadata})
    onnx.save(model, path)
    return path


def test_the_description_survives_json() -> None:
    assert FileDescription.from_json(DESCRIPTION.to_json(), 'x') == DESCRIPTION


def test_an_image_below_the_windows_is_refused(tmp_path: Path) -> None:
    """`--size` would not help: the size of windows is the config's."""
    windows = {**DESCRIPTION.postprocessing, 'crop_size': (8, 8), 'stride': (5, 5)}
    steps = replace(DESCRIPTION.preprocessing, resizes=())
    description = replace(DESCRIPTION, postprocessing=windows, preprocessing=steps)
    predictor = load_exported(write_graph(tmp_path / 'x.onnx', description.to_json()))
    assert predictor.predict(np.zeros((8, 9, 3), np.uint8)).labels.shape == (8, 9)
    with pytest.raises(ValueError, match=r'6 x 9 pixels.*windows of 8 x 8\. Set') as found:
        predictor.predict(np.zeros((6, 9, 3), np.uint8))
    assert '--size' not in str(found.value)


def test_values(tmp_path: Path) -> None:
    predictor = load_exported(write_graph(tmp_path / 'x.onnx', DESCRIPTION.to_json()))
    assert predictor.classes == ('road', 'sky')
    image = np.zeros((8, 8, 3), np.uint8)
    image[:4, :, 2] = 101  # red, the first channel of the graph: (101 - 1) / 4 = 25 > (0 - 2) / 5
    image[4:, :, 1] = 52  # green: (52 - 2) / 5 = 10 > (0 - 1) / 4
    found = predictor.predict(image, scores=True)
    assert found.labels[:4].max() == 0
    assert found.labels[4:].min() == 1
    logits = np.array([-0.25, 10.0])
    expected = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(found.scores[:, 7, 0], expected, rtol=1e-5)
    large = np.kron(image, np.ones((2, 2, 1), np.uint8))
    assert predictor.predict(large).labels.shape == (16, 16)
    assert len(predictor.predict([image, image, image], batch_size=2)) == 3


@pytest.mark.parametrize(
    ('metadata', 'message'),
    [
        (None, 'was not written by `vit-dense export`'),
        (
            json.dumps({'format_version': 99, 'product_version': '3.0'}),
            r'format version 99 \(written by vit_dense 3.0\); this version reads 1',
        ),
    ],
)
def test_foreign_files(metadata: str | None, message: str, tmp_path: Path) -> None:
    path = write_graph(tmp_path / 'x.onnx', metadata)
    with pytest.raises(ValueError, match=message):
        load_exported(path)


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    damaged = tmp_path / 'x.onnx'
    damaged.write_bytes(b'no graph')
    with pytest.raises(ValueError, match='ONNX Runtime cannot read it') as caught:
        load_exported(damaged)
    assert '\n' not in str(caught.value)
    with pytest.raises(ValueError, match='there is no such file'):
        load_exported(tmp_path / 'y.onnx')
    with pytest.raises(ValueError, match=r'ends in \.onnx or \.xml'):
        load_exported(tmp_path / 'y.pth')


def test_what_only_the_model_can_do(tmp_path: Path) -> None:
    predictor = load_exported(write_graph(tmp_path / 'x.onnx', DESCRIPTION.to_json()))
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match='no test-time augmentation'):
        predictor.predict(image, tta=True)
    with pytest.raises(ValueError, match=r"dtype='bfloat16'.*float32"):
        predictor.predict(image, dtype='bfloat16')
    fixed = replace(DESCRIPTION, preprocessing=replace(DESCRIPTION.preprocessing, resizes=()))
    predictor = load_exported(write_graph(tmp_path / 'y.onnx', fixed.to_json()))
    with pytest.raises(ValueError, match='9 x 8 pixels'):
        predictor.predict(np.zeros((9, 8, 3), np.uint8))


def test_tiles_of_large_images(tmp_path: Path) -> None:
    """This graph looks at one pixel, so that tiles change nothing."""
    predictor = load_exported(write_graph(tmp_path / 'x.onnx', DESCRIPTION.to_json()))
    model = predictor.tile_model()
    assert (model.tile, model.align, model.channels, model.threshold) == (8, 1, 3, None)
    image = np.random.default_rng(0).integers(0, 256, (37, 50, 3), dtype=np.uint8)
    found, _ = segment_tiled(predictor, image, TileOptions(overlap=2))
    red, green = (image[..., i].astype(np.float32) for i in (2, 1))
    expected = (green - 2) / 5 > (red - 1) / 4
    assert 0.1 < expected.mean() < 0.9
    np.testing.assert_array_equal(found.labels, expected)
    oblong = replace(DESCRIPTION, size=(8, 16))
    predictor = load_exported(write_graph(tmp_path / 'y.onnx', oblong.to_json()))
    with pytest.raises(ValueError, match='takes 8 x 16 pixels'):
        predictor.tile_model()


def test_runs_where_torch_is_not_installed(tmp_path: Path) -> None:
    cv2 = pytest.importorskip('cv2')
    path = write_graph(tmp_path / 'x.onnx', DESCRIPTION.to_json())
    picture = tmp_path / 'picture.png'
    cv2.imwrite(str(picture), np.full((8, 8, 3), 7, np.uint8))
    command = [sys.executable, '-c', BLOCKED, str(path), str(picture), str(tmp_path / 'out')]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "{'road': 1.0}" in done.stdout
    assert [one.name for one in (tmp_path / 'out' / 'masks').iterdir()] == ['picture.png']
