"""LoRA: nothing changes at first, corrections alone learn, merging changes nothing."""

import sys

import pytest
import torch
from mmengine.registry import MODELS
from mmengine.runner import load_checkpoint

import vit_dense  # noqa: F401 - registers
from vit_dense.backbones import LoRATimmViT, TimmViT

pytest.importorskip('peft', reason='the extra [peft] is not installed')


def run(vit, image):
    tokens, context = vit.embed(image)
    return vit.run_blocks(tokens, context, 0, vit.depth)


def randomise(vit):
    for name, parameter in vit.named_parameters():
        if '.lora_B' in name:
            torch.nn.init.normal_(parameter, std=0.1)


@pytest.fixture
def image():
    return torch.randn(2, 3, 64, 48)


@pytest.fixture
def plain():
    return TimmViT('test_vit').eval()


@pytest.fixture
def weights(plain, tmp_path):
    path = tmp_path / 'vit.pth'
    torch.save(plain.model.state_dict(), path)
    return str(path)


def build(weights=None, **options):
    vit = LoRATimmViT('test_vit', checkpoint=weights, **options)
    vit.init_weights()
    return vit.eval()


def test_pretrained_weights_arrive_and_compute_the_same(plain, weights, image):
    vit = build(weights)
    assert torch.equal(run(vit, image), run(plain, image))
    names = dict(vit.model.named_parameters())
    for name, expected in plain.model.named_parameters():
        name = name if name in names else f'{".base_layer.".join(name.rsplit(".", 1))}'
        assert torch.equal(names[name], expected), name


def test_correction_by_hand(plain, weights, image):
    vit = build(weights, rank=2, alpha=6.0, targets=['attn.qkv'], frozen_stages=5)
    randomise(vit)
    layer = vit.model.blocks[5].attn.qkv
    product = layer.lora_B['default'].weight @ layer.lora_A['default'].weight
    assert torch.linalg.matrix_rank(product) == 2
    with torch.no_grad():
        plain.model.blocks[5].attn.qkv.weight += 6.0 / 2 * product
    torch.testing.assert_close(run(vit, image), run(plain, image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ('targets', 'frozen', 'per_block'),
    [(None, 0, 4), (['qkv'], 2, 1), (['attn.proj', 'fc1'], 0, 2)],
)
def test_corrections_alone_learn(targets, frozen, per_block, image):
    vit = build(targets=targets, frozen_stages=frozen).train()
    before = {name: p.detach().clone() for name, p in vit.named_parameters()}
    trained = [name for name, p in vit.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * per_block * (vit.depth - frozen)
    assert all('.lora_' in name for name in trained)
    assert not any(f'.blocks.{i}.' in name for name in trained for i in range(frozen))
    optimizer = torch.optim.SGD([p for p in vit.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):  # A gets a gradient once B has left zero
        optimizer.zero_grad()
        run(vit, image).square().mean().backward()
        optimizer.step()
    moved = {n for n, p in vit.named_parameters() if not torch.equal(p, before[n])}
    assert moved == set(trained)


def test_resting_parts_are_in_eval_mode():
    vit = LoRATimmViT('test_vit', frozen_stages=2, drop_path_rate=0.5).train()
    assert [block.training for block in vit.model.blocks] == [False] * 2 + [True] * 4
    assert not vit.model.patch_embed.training


def test_merging_changes_names_and_no_output(plain, weights, image):
    vit = build(weights)
    randomise(vit)
    expected = run(vit, image)
    assert not torch.allclose(expected, run(plain, image), atol=1e-2)
    assert vit.merge_lora() == 24
    assert vit.state_dict().keys() == plain.state_dict().keys()
    assert not any('lora' in name for name, _ in vit.named_modules())
    torch.testing.assert_close(run(vit, image), expected, rtol=1e-4, atol=1e-5)
    plain.load_state_dict(vit.state_dict())
    torch.testing.assert_close(run(plain, image), expected, rtol=1e-4, atol=1e-5)
    assert vit.merge_lora() == 0


def test_layers_keep_their_rates():
    vit = LoRATimmViT('test_vit')
    groups = vit.layer_groups()
    assert set(groups) == dict(vit.named_parameters()).keys()
    assert groups['model.blocks.3.mlp.fc1.lora_A.default.weight'] == 4


def test_own_checkpoint_comes_back(image, tmp_path):
    vit = build(rank=4)
    randomise(vit)
    torch.save({'state_dict': vit.state_dict()}, tmp_path / 'trained.pth')
    again = build(rank=4)
    load_checkpoint(again, str(tmp_path / 'trained.pth'), strict=True)
    assert torch.equal(run(again, image), run(vit, image))


@pytest.mark.parametrize('adapter', ['ViTAdapter', 'SimpleFeaturePyramid', 'PlainViT'])
def test_checkpointing_and_adapters_reach_all_corrections(adapter):
    options = {'deform_num_heads': 4, 'conv_inplane': 8} if adapter == 'ViTAdapter' else {}
    vit = {'type': 'LoRATimmViT', 'model_name': 'test_vit', 'grad_checkpointing': True}
    model = MODELS.build({'type': adapter, 'vit': vit, **options}).train()
    randomise(model)
    for parameter in model.parameters():
        if not parameter.any() and parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    sum((x * torch.randn_like(x)).sum() for x in model(torch.randn(1, 3, 64, 96))).backward()
    silent = [n for n, p in model.named_parameters() if p.requires_grad and not p.grad.any()]
    assert silent == []


def test_weights_used_without_a_call_are_refused():
    small = {'embed_dim': 24, 'num_heads': 2, 'depth': 2}
    with pytest.raises(ValueError, match=r"\['attn.qkv'\] without .*targets=\['attn.proj',"):
        LoRATimmViT('beit_base_patch16_224', model_kwargs=small)
    vit = LoRATimmViT(
        'beit_base_patch16_224', model_kwargs=small, targets=['attn.proj', 'mlp.fc1', 'mlp.fc2']
    )
    assert sum(p.requires_grad for p in vit.parameters()) == 2 * 3 * 2


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'rank': 0}, 'rank >= 1'),
        ({'alpha': 0}, 'alpha > 0'),
        ({'dropout': 1.0}, r'dropout in \[0, 1\)'),
        ({'frozen_stages': 6}, "type='TimmViT', frozen_stages=6"),
        ({'frozen_stages': -1}, 'embeddings are always frozen'),
        ({'targets': ['query']}, r"\['attn.proj', 'attn.qkv', 'mlp.fc1', 'mlp.fc2'\]"),
        ({'targets': []}, 'leave targets out'),
    ],
)
def test_mistakes_are_told(options, message):
    with pytest.raises(ValueError, match=message):
        LoRATimmViT('test_vit', **options)


def test_missing_package_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, 'peft', None)
    with pytest.raises(ImportError, match=r'pip install "vit_dense\[peft\]"'):
        LoRATimmViT('test_vit')
