"""The probe: ridge, counts and resampling by hand, and made data whose classes are colours."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import timm
import torch
from mmseg.evaluation import IoUMetric
from PIL import Image

import vit_dense.segmentation  # noqa: F401 - registers
from vit_dense.apis import load_config
from vit_dense.apis import probe as probe_module
from vit_dense.apis.probe import ProbeResult, bootstrap, mean_share, probe_model
from vit_dense.apis.probe_data import VOID, Example, ProbeData, load_probe_data
from vit_dense.cli.probe import main
from vit_dense.engine.ridge import _PENALTIES, fit_ridge, patch_counts, second_moments

COLOURS = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]  # RGB of two classes, and of background
CELL, CELLS = 32, (3, 4)
SEGMENTATION = """
custom_imports = dict(imports=['vit_dense.segmentation'], allow_failed_imports=False)
default_scope = 'mmseg'
model = dict(data_preprocessor=dict(bgr_to_rgb=True))
pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
            dict(type='RandomResize', scale=(9, 9), ratio_range=(1, 2)), dict(type='PackSegInputs')]
part = dict(type='CheckedSegDataset', data_root='{root}', pipeline=pipeline,
            metainfo=dict(classes=('a', 'b')))
folders = dict(img_path='images', seg_map_path='masks')
train_dataloader = dict(dataset=dict(data_prefix=folders, **part))
val_dataloader = dict(dataset=dict(data_prefix=folders, **part))
"""
DETECTION = """
custom_imports = dict(imports=['vit_dense.detection'], allow_failed_imports=False)
default_scope = 'mmdet'
model = dict(data_preprocessor=dict(bgr_to_rgb=True))
pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
            dict(type='PackDetInputs')]
part = dict(type='CheckedCocoDataset', data_root='{root}', ann_file='boxes.json',
            data_prefix=dict(img='images'), metainfo=dict(classes=('a', 'b')), pipeline=pipeline)
train_dataloader = dict(dataset=dict(**part))
val_dataloader = dict(dataset=dict(test_mode=True, **part))
"""


def write_data(root: Path, text: str, count: int = 12) -> str:
    """Writes images of cells in the colours of their classes, and labels; returns the config."""
    rng = np.random.default_rng(0)
    for folder in ('images', 'masks'):
        (root / folder).mkdir()
    content: dict[str, Any] = {'images': [], 'annotations': []}
    content['categories'] = [{'id': 1, 'name': 'a'}, {'id': 2, 'name': 'b'}]
    for number in range(count):
        cells = rng.choice([0, 1, 2], CELLS, p=[0.3, 0.3, 0.4])
        labels = cells.repeat(CELL, 0).repeat(CELL, 1).astype(np.uint8)
        picture = np.array(COLOURS, np.uint8)[labels]
        Image.fromarray(picture).save(root / 'images' / f'{number}.png')
        Image.fromarray(np.where(labels == 2, 255, labels)).save(root / 'masks' / f'{number}.png')
        size = {'height': labels.shape[0], 'width': labels.shape[1]}
        content['images'].append({'id': number, 'file_name': f'{number}.png', **size})
        for row, column in zip(*np.nonzero(cells < 2), strict=True):
            box = {'bbox': [int(column) * CELL, int(row) * CELL, CELL, CELL], 'area': CELL**2}
            box |= {'id': len(content['annotations']) + 1, 'iscrowd': 0, 'image_id': number}
            content['annotations'].append({**box, 'category_id': int(cells[row, column]) + 1})
    (root / 'boxes.json').write_text(json.dumps(content))
    (root / 'cfg.py').write_text(text.replace('{root}', str(root)))
    return str(root / 'cfg.py')


def load(root: Path, text: str, **options: Any) -> ProbeData:
    return load_probe_data(load_config(write_data(root, text)), size=4 * CELL, **options)


@pytest.fixture
def blind(tmp_path: Path) -> str:
    """Returns weights that do not see the image."""
    state = timm.create_model('test_vit').state_dict()
    state['patch_embed.proj.weight'].zero_()
    state['pos_embed'].zero_()
    torch.save(state, tmp_path / 'blind.pth')
    return f'test_vit={tmp_path / "blind.pth"}'


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Returns a function that runs the command in this process."""

    def run(*args: object) -> int:
        monkeypatch.setattr(sys, 'argv', ['vit-dense probe', *map(str, args)])
        return main()

    return run


def test_ridge_by_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 4, generator=generator, dtype=torch.float64) * torch.tensor([1, 10, 0.1, 3])
    x = torch.cat([x + 5, torch.full((60, 1), 7.0)], 1)  # the last feature is constant
    noise = torch.randn(60, 2, generator=generator, dtype=torch.float64)
    y = x[:, :2] * torch.tensor([1, 0.1]) + noise
    weight = torch.rand(60, generator=generator, dtype=torch.float64)
    fitted, held = slice(0, 40), slice(40, 60)

    def by_hand(rows: slice, penalty: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Minimises the weighted mean of squares plus penalty, of standardised features."""
        a, b, w = x[rows, :4], y[rows], (weight[rows] / weight[rows].sum())[:, None]
        mean = (w * a).sum(0)
        std = (w * (a - mean) ** 2).sum(0).sqrt()
        z, centre = (a - mean) / std, (w * b).sum(0)
        found = torch.linalg.inv(z.T @ (w * z) + penalty * torch.eye(4)) @ z.T @ (w * (b - centre))
        matrix = torch.cat([found / std[:, None], torch.zeros(1, 2)])
        return matrix, centre - mean @ matrix[:4]

    def error(penalty: float) -> float:
        matrix, bias = by_hand(fitted, penalty)
        return float((weight[held, None] * (y[held] - x[held] @ matrix - bias) ** 2).sum())

    best = min(_PENALTIES.tolist(), key=error)
    assert _PENALTIES[0] < best < _PENALTIES[-1]  # not at an end, where it would prove little
    moments = [second_moments(x[rows], y[rows], weight[rows]) for rows in (fitted, held)]
    matrix, bias = fit_ridge(*moments, 2)
    expected, _ = by_hand(slice(0, 60), best)
    torch.testing.assert_close(matrix[:4], expected[:4], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(x @ matrix + bias, x @ expected + by_hand(slice(0, 60), best)[1])


def test_patches_count_pixels() -> None:
    labels = torch.tensor([[0, 0, 1, 1, 2], [0, 1, 1, VOID, 2], [2, 2, VOID, VOID, VOID]])
    counts = patch_counts(labels, 2, (2, 3), 3)
    assert counts.tolist() == [[3, 1, 0], [0, 3, 0], [0, 0, 2], [0, 0, 2], [0, 0, 0], [0, 0, 0]]


def test_scores_are_enlarged_by_the_stride() -> None:
    columns = torch.arange(40).expand(40, 40) // 16  # the last patch is cut off by the image
    features = torch.eye(3, dtype=torch.float64)[None, :, None].expand(1, 3, 3, 3)
    weight, bias = torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for labels, x in ((columns, features), (columns.T, features.mT)):
        example = Example(torch.zeros(3, 40, 40), labels, None)
        found = probe_module._confusion(example, x, 16, weight, bias)
        assert found.tolist() == [[640, 0, 0], [0, 640, 0], [0, 0, 320]]


def test_images_are_normalised_as_the_weights_expect() -> None:
    parameters = lambda: iter([torch.zeros(1)])  # noqa: E731
    vit = SimpleNamespace(mean=(0.5, 0.4, 0.2), std=(0.5, 0.2, 0.1), parameters=parameters)
    found = probe_module._normalise(vit, torch.full((3, 1, 1), 255, dtype=torch.uint8))
    torch.testing.assert_close(found.flatten(), torch.tensor([1.0, 3.0, 8.0]))


def test_resampling_by_hand() -> None:
    right = torch.tensor([[5, 0], [1, 2], [0, 0]])
    total = torch.tensor([[10, 0], [4, 2], [1, 0]])
    drawn = torch.randint(3, (1000, 3), generator=torch.Generator().manual_seed(0))
    found = bootstrap(right, total)
    for images, score in list(zip(drawn.tolist(), found.tolist(), strict=True))[:50]:
        shares = [
            sum(int(right[i, c]) for i in images) / count
            for c in (0, 1)
            if (count := sum(int(total[i, c]) for i in images))  # others occur in no image
        ]
        assert score == pytest.approx(100 * sum(shares) / len(shares))


def test_a_tie_is_a_difference_within_its_interval() -> None:
    def result(scores: torch.Tensor) -> ProbeResult:
        return ProbeResult('x', 0, (0, 0), 0, 0, 0, '', scores.tolist())

    spread = torch.linspace(-10, 10, 1000)
    best = result(50 + spread)
    assert best.is_tied_with(best)
    assert not result(49 + spread).is_tied_with(best)  # always worse, although intervals overlap
    assert result(49 - spread).is_tied_with(best)


def test_images_are_resized_rgb_with_their_labels(tmp_path: Path) -> None:
    config = load_config(write_data(tmp_path, SEGMENTATION))
    data = load_probe_data(config, images=12, size=2 * CELL)
    assert (data.classes, len(data.train), len(data.val)) == (2, 8, 4)
    for one in data.val:
        assert one.image.shape == (3, 3 * CELL // 2, 2 * CELL)
        for label, colour in enumerate(COLOURS):
            chosen = one.labels == (VOID if label == 2 else label)
            assert (torch.tensor(colour) == one.image[:, chosen].T).all()


def test_grey_images_are_three_equal_channels(tmp_path: Path) -> None:
    grey = "dict(type='LoadImageFromFile', color_type='grayscale')"
    data = load(tmp_path, SEGMENTATION.replace("dict(type='LoadImageFromFile')", grey))
    vit = SimpleNamespace(mean=(0.5,) * 3, std=(1.0,) * 3, parameters=lambda: iter([torch.ones(1)]))
    found = probe_module._normalise(vit, data.train[0].image)
    assert found.shape == (1, 3, *data.train[0].image.shape[1:])
    assert torch.equal(found[:, :1].expand_as(found), found)


def test_boxes_are_resized_and_background_has_no_objects(tmp_path: Path) -> None:
    data = load_probe_data(load_config(write_data(tmp_path, DETECTION)), size=2 * CELL)
    assert data.classes == 3
    seen = set()
    for one in data.train:
        assert one.boxes is not None
        for label, (x1, y1, x2, y2) in zip(one.labels.tolist(), one.boxes.tolist(), strict=True):
            part = one.image[:, round(y1) : round(y2), round(x1) : round(x2)].float()
            shares = [(torch.tensor(c) == part.mT.reshape(3, -1).T).all(1) for c in COLOURS]
            share = float(shares[label].float().mean())
            assert share == 1 if label < 2 else share > 0.6
            assert x2 <= 2 * CELL
            assert y2 <= 3 * CELL / 2
            seen.add(label)
    assert seen == {0, 1, 2}


@pytest.mark.parametrize('text', [SEGMENTATION, DETECTION], ids=['masks', 'boxes'])
def test_a_model_that_sees_the_colours_is_first(
    text: str, tmp_path: Path, blind: str, probe: Callable[..., int], capsys: pytest.CaptureFixture
) -> None:
    config = write_data(tmp_path, text)
    torch.save({'other.weight': torch.zeros(2)}, tmp_path / 'other.pth')
    models = [blind, 'nonsense', f'test_vit={tmp_path / "other.pth"}', 'test_vit=random']
    models += [f'test_vit={tmp_path / "absent.pth"}', 'test_convnext=random']
    out, file = tmp_path / 'probe.png', tmp_path / 'probe.json'
    options = ('--size', 128, '--images', 12, '--out', out, '--json', file)
    assert probe(config, '--models', *models, *options) == 0
    shown = capsys.readouterr()
    found = json.loads(file.read_text())
    scores = {one['model']: one['score'] for one in found['models']}
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    assert scores['test_vit=random'] > 85
    assert scores['test_convnext=random'] > 70
    assert scores[blind] < 60
    tied = {line.split()[0] for line in shown.out.splitlines() if '~ ' in line}
    assert max(scores, key=lambda one: scores[one]) in tied
    assert blind not in tied
    assert list(found['failed']) == [models[1], models[2], models[4]]
    for model, reason in found['failed'].items():
        assert f'no score: {model}: {reason}\n' in shown.out
    assert "'nonsense' is not a timm model" in found['failed']['nonsense']
    assert len(shown.err.split('6/6 test_convnext=random: ')) == 2
    for one in found['models']:
        low, high = one['interval']
        assert low <= one['score'] <= high
        assert one['training_memory'] > 16 * one['parameters'] > 0
        assert one['licence'] == '-'
        assert one['ms'] > 0
    assert cv2.imread(str(out)).shape[1] == 840


def test_the_score_is_the_miou_of_mmseg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load(tmp_path, SEGMENTATION)
    pairs: list[Any] = []
    bincount = torch.bincount

    def spy(values: torch.Tensor, minlength: int = 0) -> torch.Tensor:
        if minlength == data.classes**2:  # the confusion of an image
            pairs.append((values // data.classes, values % data.classes))
        return bincount(values, minlength=minlength)

    monkeypatch.setattr(torch, 'bincount', spy)
    # Three blocks of random weights, at a stride that leaves wrong pixels at the borders of cells.
    found = probe_model(data, 'test_vit=random', model_kwargs={'depth': 3}, device='cpu')
    areas = [IoUMetric.intersect_and_union(seen, true, data.classes, 255) for true, seen in pairs]
    sums = [sum(part) for part in zip(*areas, strict=True)]
    expected = IoUMetric.total_area_to_metrics(*sums)['IoU']
    assert len(pairs) == len(data.val)
    assert 50 < found.score < 99.9
    assert found.score == pytest.approx(100 * expected.mean(), rel=1e-5)
    assert mean_share(sums[0], sums[1]) == pytest.approx(found.score, rel=1e-5)


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ("seg_map_path='masks'", "seg_map_path=''", 'images have no mask'),
        ('val_dataloader = ', 'other = ', 'val_dataloader of the config gives 0 of 66 labelled'),
        ('_dataloader = ', ' = ', 'no data'),
    ],
)
def test_data_without_labels_end_in_one_message(
    old: str,
    new: str,
    message: str,
    tmp_path: Path,
    probe: Callable[..., int],
    capsys: pytest.CaptureFixture,
) -> None:
    config = write_data(tmp_path, SEGMENTATION.replace(old, new))
    assert probe(config, '--models', 'test_vit=random') == 2
    assert message in capsys.readouterr().err


def test_all_classes_of_boxes_weigh_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums = []

    def spy(x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        sums.append((y * weight[:, None]).sum(0))
        return second_moments(x, y, weight)

    monkeypatch.setattr(probe_module, 'second_moments', spy)
    probe_model(load(tmp_path, DETECTION), 'test_vit=random', device='cpu')
    torch.testing.assert_close(torch.stack(sums).sum(0), torch.ones(3))


def test_a_mask_that_nobody_opened_before_is_checked(tmp_path: Path) -> None:
    text = SEGMENTATION.replace('pipeline=pipeline', 'pipeline=pipeline, scan_masks=1')
    config = load_config(write_data(tmp_path, text))
    mask = np.full((CELLS[0] * CELL, CELLS[1] * CELL), 7, np.uint8)
    Image.fromarray(mask).save(tmp_path / 'masks' / '5.png')
    with pytest.raises(ValueError, match=r'masks/5.png .* no class: run vit-dense check'):
        load_probe_data(config)


def test_no_score_is_exit_code_1(
    tmp_path: Path, probe: Callable[..., int], capsys: pytest.CaptureFixture
) -> None:
    config = write_data(tmp_path, SEGMENTATION)
    assert probe(config, '--models', 'nonsense', '--out', tmp_path / 'x.png') == 1
    assert 'no score: nonsense' in capsys.readouterr().out
    with pytest.raises(SystemExit, match='2'):
        probe(config, '--models', 'nonsense', '--out', 'x.what')
    assert '--out x.what: the suffix must be one of .png' in capsys.readouterr().err


def test_options_are_checked_before_the_work(
    tmp_path: Path, probe: Callable[..., int], capsys: pytest.CaptureFixture
) -> None:
    config = write_data(tmp_path, SEGMENTATION)
    assert probe(config, '--models', 'test_vit=random', '--size', 8) == 2
    assert '--size 8: the longest edge must have 32 pixels' in capsys.readouterr().err
    assert probe(config, '--models', 'nonsense', '--json', tmp_path / 'new' / 'x.json') == 1
    assert list(json.loads((tmp_path / 'new' / 'x.json').read_text())['failed']) == ['nonsense']
