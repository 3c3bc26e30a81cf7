"""Counts of models, against what a hand calculation gives."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config, ConfigDict
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from vit_dense.apis import analysis, load_config
from vit_dense.apis.analysis import analyze_model, multiply_adds_by_part, saved_bytes_by_part
from vit_dense.cli import analyze
from vit_dense.ops.ms_deform_attn import MSDeformAttn
from vit_dense.ops.sampling_grid import SamplingGrid

ROOT = Path(__file__).resolve().parents[2]
TOKENS, WIDTH, BLOCKS = 7 * 10, 64, 6  # of 112 x 160 pixels in timm's test_vit


@pytest.fixture(autouse=True)
def short_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, '_MIN_SECONDS', 0.01)


def segmentor(**changes: Any) -> Config:
    """A plain ViT with one 1x1 convolution to three classes, and an auxiliary head as it."""
    head = {
        'type': 'FCNHead',
        'num_convs': 0,
        'concat_input': False,
        'in_channels': WIDTH,
        'channels': WIDTH,
        'num_classes': 3,
        'norm_cfg': None,
    }
    model = {
        'type': 'EncoderDecoder',
        'data_preprocessor': {
            'type': 'SegDataPreProcessor',
            'mean': [127.5] * 3,
            'std': [127.5] * 3,
            'size': (224, 224),
        },
        'backbone': {
            'type': 'PlainViT',
            'vit': {'type': 'TimmViT', 'model_name': 'test_vit', 'pretrained': False},
        },
        'decode_head': head,
        'auxiliary_head': dict(head),
        'test_cfg': {'mode': 'whole'},
    }
    optimizer = {'type': 'AdamW', 'lr': 0.1}
    base = {'default_scope': 'mmseg', 'model': model, 'optim_wrapper': {'optimizer': optimizer}}
    import vit_dense.segmentation  # noqa: F401

    return Config({**base, **changes})


def test_a_plain_vit_by_hand() -> None:
    found = analyze_model(segmentor(), size=(112, 160), device='cpu')
    parts = {part.name: part for part in found.parts}
    tokens = TOKENS + 1  # and the class token
    linear = (4 + 2 * 3) * tokens * WIDTH**2  # queries, keys, values, output; MLP ratio 3
    attention = 2 * tokens**2 * WIDTH
    embedding = TOKENS * WIDTH * 3 * 16 * 16
    expected = embedding + BLOCKS * (linear + attention)
    assert parts['backbone.vit'].multiply_adds == expected
    assert parts['backbone.vit'].training_multiply_adds == expected
    assert parts['decode_head'].multiply_adds == TOKENS * WIDTH * 3
    assert parts['decode_head'].parameters == WIDTH * 3 + 3
    assert parts['auxiliary_head'].multiply_adds == 0
    assert parts['auxiliary_head'].training_multiply_adds == TOKENS * WIDTH * 3
    assert found.total.multiply_adds == expected + TOKENS * WIDTH * 3
    vit = parts['backbone.vit']
    # Weight, gradient and AdamW's two moments, of four bytes each.
    assert vit.training_memory == 16 * vit.parameters + vit.activations
    assert (found.size, found.optimizer, found.device) == ((112, 160), 'AdamW', 'cpu')
    assert found.images_per_second > 0


def test_memory_grows_with_the_batch_and_frozen_parameters_have_no_gradient() -> None:
    config = segmentor(optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9}})
    config.model.backbone.vit.frozen_stages = BLOCKS
    one, two = (analyze_model(config, size=(64, 64), batch_size=n, device='cpu') for n in (1, 2))
    parts = {part.name: part for part in two.parts}
    assert two.total.multiply_adds == one.total.multiply_adds
    # But for scalars of the losses.
    assert abs(two.total.activations - 2 * one.total.activations) < 100
    vit, head = parts['backbone.vit'], parts['decode_head']
    assert (vit.trained, vit.activations) == (0, 0)
    assert vit.training_memory == 4 * vit.parameters
    assert head.training_memory == 12 * head.parameters + head.activations


class Layers(nn.Module):
    """Has parts, as mmengine's models, and takes their arguments."""

    def __init__(self, backbone: nn.Module, neck: nn.Module) -> None:
        super().__init__()
        self.backbone, self.neck = backbone, neck

    def data_preprocessor(self, data: dict[str, Tensor], training: bool) -> dict[str, Tensor]:
        return data

    def forward(self, image: Tensor, mode: str) -> Tensor:
        x: Tensor = self.neck(self.backbone(image))
        return x.square().sum() if mode == 'loss' else x


def test_saved_bytes_of_known_layers() -> None:
    model = Layers(nn.Linear(10, 20), nn.Sequential(nn.ReLU(), nn.Linear(20, 5), nn.Sigmoid()))
    image = torch.zeros(7, 10)
    saved = saved_bytes_by_part(model, {'image': image})
    # The image; ReLU's output, which is the second layer's input; the output, saved once though
    # the square saves it again. No weight.
    assert saved == {'backbone': 4 * 70, 'neck': 4 * (140 + 35)}
    assert multiply_adds_by_part(model, {'image': image}, 'tensor')['neck'] == 7 * 20 * 5


class Accuracy(nn.Module):
    """Saves the places of maxima, for an output that nothing depends on."""

    def forward(self, x: Tensor) -> Tensor:
        x.topk(1).values.square()
        return x


def test_what_is_saved_for_nothing_is_not_counted() -> None:
    heads = nn.Sequential(Accuracy(), nn.ReLU(), Accuracy(), nn.Sigmoid())
    saved = saved_bytes_by_part(Layers(nn.Linear(10, 20), heads), {'image': torch.zeros(7, 10)})
    assert saved == {'backbone': 4 * 70, 'neck': 4 * 140 * 2}


class Sampling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = MSDeformAttn(32, 4, num_levels=2, num_points=3, value_ratio=0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        grid = SamplingGrid.of(torch.rand(16, 2) * 64, [(4, 4), (2, 2)], [16, 32])
        out: Tensor = self.layer(tokens[:, :16], grid, tokens)
        return out


@pytest.mark.parametrize('backend', ['_by_embedding_bag', '_by_grid_sample'])
@pytest.mark.parametrize('mode', ['tensor', 'loss'])
def test_deformable_attention_counts_alike_by_all_backends(
    backend: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module('vit_dense.ops.ms_deform_attn')
    monkeypatch.setattr(module, '_by_embedding_bag', getattr(module, backend))
    model = Layers(Sampling(), nn.Identity())
    counted = multiply_adds_by_part(model, {'image': torch.zeros(1, 20, 32)}, mode)
    samples = 4 * 2 * 3
    offsets_and_weights = 16 * 32 * samples * 3
    values_and_output = 20 * 32 * 16 + 16 * 16 * 32
    sampled = 5 * 16 * samples * 4  # head width 16 / 4
    assert counted['backbone'] == offsets_and_weights + values_and_output + sampled


@pytest.mark.parametrize('fused', [True, False])
def test_attention_of_torch_counts_fused_or_not(fused: bool) -> None:
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True).eval()
    model = Layers(layer, nn.Identity())
    backend = SDPBackend.FLASH_ATTENTION if fused else SDPBackend.MATH
    with sdpa_kernel(backend):
        counted = multiply_adds_by_part(model, {'image': torch.zeros(1, 10, 32)}, 'tensor')
    assert counted['backbone'] == 10 * 32 * (4 * 32 + 2 * 64) + 2 * 10 * 10 * 32


def test_the_command_analyzes_a_detector(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, out = str(ROOT / 'configs/vit_maskrcnn_demo.py'), tmp_path / 'figures.json'
    arguments = [config, '--size', '96', '--device', 'cpu', '--json', str(out)]
    monkeypatch.setattr('sys.argv', ['vit-dense analyze', *arguments])
    assert analyze.main() == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    rows = {cells[0] for cells in lines if cells}
    figures = json.loads(out.read_text())
    names = [part['name'] for part in figures['parts']]
    assert names[:5] == ['backbone.vit', 'backbone', 'neck', 'rpn_head', 'roi_head']
    assert {'ViT', 'adapter', 'roi_head', 'total'} <= rows
    assert figures['size'] == [96, 96]
    roi = figures['parts'][4]
    # 1x1 fully connected layers on 7x7 RoIs; the number of proposals depends on the random weights.
    box = 7 * 7 * 64 * 128 + 128 * 128 + 128 * (4 + 3 * 4)
    mask = 7 * 7 * 64 * 64 * 9 * 2 + 7 * 7 * 64 * 64 * 4 + 14 * 14 * 64 * 3
    proposals, rest = divmod(roi['multiply_adds'] - 100 * mask, box)
    assert rest == 0
    assert 100 <= proposals <= 200


def default_sizes() -> list[Any]:
    return [
        ({'model': {'data_preprocessor': {'size': (32, 64)}}}, (32, 64)),
        ({'model': {}, 'crop_size': 48}, (48, 48)),
    ]


@pytest.mark.parametrize(('config', 'size'), default_sizes())
def test_default_sizes(config: dict[str, Any], size: tuple[int, int]) -> None:
    assert analysis._default_size(Config(config)) == size


def test_the_scale_of_a_test_pipeline_has_its_width_first() -> None:
    config = load_config(str(ROOT / 'configs/vit_maskrcnn_coco.py'))
    assert analysis._default_size(config) == (800, 1333)


def batch_norm(config: Config) -> None:
    config.model.decode_head.update(num_convs=1, norm_cfg=ConfigDict(type='BN'))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'batch_size': 0}, '--batch-size takes 1 or more, got 0'),
        ({'device': 'cuda'}, 'PyTorch sees 0 GPUs here'),
    ],
)
def test_mistakes(arguments: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(ValueError, match=message):
        analyze_model(segmentor(), **{'size': (32, 32), 'device': 'cpu', **arguments})


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (batch_norm, 'cannot train on a batch of 1: pass --batch-size 2'),
        (lambda config: config.pop('default_scope'), 'default_scope is None'),
        (lambda config: config.model.data_preprocessor.pop('size'), 'pass --size HEIGHT WIDTH'),
    ],
    ids=['batch-norm', 'scope', 'size'],
)
def test_configs_that_cannot_be_analyzed(change: Callable[[Config], object], message: str) -> None:
    config = segmentor()
    change(config)
    size = None if 'pass --size' in message else (16, 16)
    with pytest.raises(ValueError, match=message):
        analyze_model(config, size=size, device='cpu')


def test_a_config_without_optimizer() -> None:
    config = segmentor()
    config.pop('optim_wrapper')
    found = analyze_model(config, size=(32, 32), device='cpu')
    assert found.optimizer is None
    assert found.total.training_memory == 8 * found.total.parameters + found.total.activations


def test_batch_norm_of_one_value_is_counted_on_two_images() -> None:
    config = segmentor()
    batch_norm(config)
    found = analyze_model(config, size=(16, 16), batch_size=2, device='cpu')
    head = next(part for part in found.parts if part.name == 'decode_head')
    assert head.training_multiply_adds == head.multiply_adds == WIDTH * (9 * WIDTH + 3)
