"""Layer decay: published factors, no-decay rules, and cooperation with mmengine."""

import logging

import pytest
import torch
from mmengine.optim import LinearLR, build_optim_wrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, Registry
from torch import nn

import vit_dense  # noqa: F401 - registers
from vit_dense.backbones import TimmViT
from vit_dense.compat.console import FILE_ONLY

RATE, LR, DECAY = 0.5, 1e-2, 0.1


class FakeViT(nn.Module):
    """Two blocks, and parameters of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, 5, 4))
        self.odd_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.blocks = nn.ModuleList(
            nn.ModuleDict({'norm': nn.LayerNorm(4), 'fc': nn.Linear(4, 4)}) for _ in range(2)
        )
        self.norm = nn.LayerNorm(4)

    def layer_groups(self) -> dict[str, int]:
        groups = {}
        for name, _ in self.named_parameters():
            if name.startswith('blocks.'):
                groups[name] = int(name.split('.')[1]) + 1
            else:
                groups[name] = 3 if name.startswith('norm.') else 0
        return groups

    def no_weight_decay(self) -> set[str]:
        return {'odd_token'}


class FakeModel(nn.Module):
    def __init__(self, vit: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.vit = vit or FakeViT()
        self.backbone.level_embed = nn.Parameter(torch.zeros(3, 4))
        self.backbone.gamma = nn.Parameter(torch.zeros(4))
        self.backbone.conv = nn.Conv2d(4, 4, 1)
        self.decode_head = nn.Conv2d(4, 2, 1)


def build(model, wrapper=None, **paramwise):
    paramwise.setdefault('layer_decay_rate', RATE)
    cfg = {
        'type': 'OptimWrapper',
        'constructor': 'LayerDecayOptimWrapperConstructor',
        'optimizer': {'type': 'AdamW', 'lr': LR, 'weight_decay': DECAY},
        'paramwise_cfg': paramwise,
    }
    return build_optim_wrapper(model, cfg | (wrapper or {}))


def settings(model, optim_wrapper):
    """Parameter name -> (factor on the base rate, weight decay)."""
    names = {id(p): name for name, p in model.named_parameters()}
    found = {}
    for group in optim_wrapper.optimizer.param_groups:
        assert group['lr'] == pytest.approx(LR * group['lr_scale'])
        for parameter in group['params']:
            assert names[id(parameter)] not in found
            found[names[id(parameter)]] = (group['lr_scale'], group['weight_decay'])
    return found


def test_factors_and_decay_by_hand():
    model = FakeModel()
    found = settings(model, build(model))
    assert found.keys() == dict(model.named_parameters()).keys()
    vit = 'backbone.vit.'
    expected = {
        f'{vit}pos_embed': (RATE**3, 0),
        f'{vit}odd_token': (RATE**3, 0),
        f'{vit}blocks.0.fc.weight': (RATE**2, DECAY),
        f'{vit}blocks.0.fc.bias': (RATE**2, 0),
        f'{vit}blocks.1.norm.weight': (RATE, 0),
        f'{vit}norm.bias': (1, 0),
        'backbone.level_embed': (1, 0),
        'backbone.gamma': (1, 0),
        'backbone.conv.weight': (1, DECAY),
        'decode_head.weight': (1, DECAY),
        'decode_head.bias': (1, 0),
    }
    assert {name: found[name] for name in expected} == expected


def test_few_groups_full_rate_first():
    model = FakeModel()
    groups = build(model).optimizer.param_groups
    assert len(groups) == 2 * 3 + 1  # two decays per layer; embeddings have only one
    assert groups[0]['lr_scale'] == 1
    assert groups[0]['weight_decay'] == DECAY


NORMED = ('test_vit', 'deit_tiny_patch16_224')  # the others normalise after pooling only


@pytest.mark.parametrize(
    'model_name',
    ['test_vit', 'test_vit2', 'test_vit4', 'deit_tiny_patch16_224', 'eva02_tiny_patch14_224'],
)
def test_timm_models(model_name):
    vit = TimmViT(model_name, final_norm=model_name in NORMED)
    model = FakeModel(vit)
    found = settings(model, build(model, layer_decay_rate=0.9))
    assert found.keys() == dict(model.named_parameters()).keys()
    scale = 0.9 ** (vit.depth + 1)
    assert found['backbone.vit.model.patch_embed.proj.weight'] == (pytest.approx(scale), DECAY)
    assert found['backbone.vit.model.pos_embed'] == (pytest.approx(scale), 0)
    last = f'backbone.vit.model.blocks.{vit.depth - 1}.attn.proj.weight'
    assert found[last] == (pytest.approx(0.9), DECAY)
    norm = 'backbone.vit.model.norm.weight'
    assert found.get(norm) == ((1, 0) if model_name in NORMED else None)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            assert found[name][1] == 0, name


def test_published_factor_without_final_norm():
    # ViT-Adapter's recipe for 12 blocks: 14 layers, the embeddings at rate ** 13.
    model = FakeModel(TimmViT('deit_tiny_patch16_224'))
    found = settings(model, build(model, layer_decay_rate=0.95))
    assert found['backbone.vit.model.cls_token'][0] == pytest.approx(0.95**13)
    assert found['backbone.vit.model.blocks.11.mlp.fc2.weight'][0] == pytest.approx(0.95)


def test_relative_tables_are_not_decayed():
    vit = TimmViT(
        'beit_base_patch16_224', model_kwargs={'depth': 2, 'embed_dim': 24, 'num_heads': 2}
    )
    model = FakeModel(vit)
    found = settings(model, build(model))
    tables = [name for name in found if name.endswith('relative_position_bias_table')]
    assert tables
    assert all(found[name][1] == 0 for name in tables)


def test_frozen_parameters_are_left_out():
    model = FakeModel(TimmViT('test_vit', frozen_stages=2))
    found = settings(model, build(model))
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert found.keys() == trainable
    assert not any('blocks.1.' in name or 'patch_embed' in name for name in found)
    assert found['backbone.vit.model.blocks.2.attn.qkv.weight'][0] == RATE**4


def test_shared_parameter_appears_once_with_its_layer():
    model = FakeModel()
    model.decode_head.tied = model.backbone.vit.blocks[0]['fc'].weight
    model.first = nn.Module()
    found = settings(model, build(model))
    assert found['backbone.vit.blocks.0.fc.weight'] == (RATE**2, DECAY)
    assert 'decode_head.tied' not in found


def test_under_ddp_names():
    model = FakeModel()

    class Wrapper(nn.Module):  # as DistributedDataParallel presents it
        def __init__(self, module):
            super().__init__()
            self.module = module

    inner = FakeModel()
    inner.backbone = Wrapper(inner.backbone)  # MMSeparateDistributedDataParallel wraps children
    keys = {'custom_keys': {'backbone.conv': {'lr_mult': 0.1}}}
    plain = settings(model, build(model, **keys))
    assert settings(model, build(Wrapper(model), **keys)) == plain
    parts = settings(inner, build(inner, **keys))
    assert {name.replace('module.', ''): value for name, value in parts.items()} == plain


def test_custom_keys():
    model = FakeModel()
    keys = {
        'decode_head': {'lr_mult': 10},
        'vit.blocks': {'lr_mult': 0.1},
        'vit.blocks.1.fc': {'decay_mult': 2},
    }
    found = settings(model, build(model, custom_keys=keys))
    assert found['decode_head.weight'] == (10, DECAY)
    assert found['decode_head.bias'] == (10, 0)
    assert found['backbone.vit.blocks.0.fc.weight'] == (pytest.approx(RATE**2 * 0.1), DECAY)
    # the longest key alone decides, and its decay_mult replaces the rule for biases
    assert found['backbone.vit.blocks.1.fc.bias'] == (RATE, 2 * DECAY)


def test_decay_multipliers():
    model = FakeModel()
    options = {'norm_decay_mult': 0.5, 'bias_decay_mult': 1, 'flat_decay_mult': 2}
    found = settings(model, build(model, **options))
    assert found['backbone.vit.norm.bias'][1] == 0.5 * DECAY
    assert found['decode_head.bias'][1] == DECAY
    assert found['backbone.gamma'][1] == 2 * DECAY
    assert found['backbone.vit.pos_embed'][1] == 0


def test_table_is_logged_once_with_a_row_per_layer(monkeypatch):
    logged = []
    monkeypatch.setattr(
        'vit_dense.engine.layer_decay.print_log', lambda text, **kw: logged.append((text, kw))
    )
    model = FakeModel()
    build(model, custom_keys={'no_such_part': {'lr_mult': 2}})
    assert len(logged) == 3
    rows = [line.split()[0] for line in logged[1][0].splitlines()[1:]]
    assert rows == ['embeddings', 'block', 'block', 'backbone', 'final', 'decode_head']
    assert FILE_ONLY.match(logged[1][0])
    assert not FILE_ONLY.match(logged[0][0])
    assert 'no_such_part' in logged[2][0]
    assert logged[2][1]['level'] == logging.WARNING


def test_schedulers_keep_the_ratios():
    model = FakeModel()
    optim_wrapper = build(model)
    scheduler = LinearLR(optim_wrapper, start_factor=0.1, begin=0, end=10)
    for group in optim_wrapper.optimizer.param_groups:
        assert group['initial_lr'] == pytest.approx(LR * group['lr_scale'])
        assert group['lr'] == pytest.approx(0.1 * LR * group['lr_scale'])
    optim_wrapper.step()
    scheduler.step()
    ratios = {group['lr'] / group['lr_scale'] for group in optim_wrapper.optimizer.param_groups}
    assert max(ratios) == pytest.approx(min(ratios))
    logged = optim_wrapper.get_lr()
    assert logged['base_lr'][0] == pytest.approx(logged['lr'][0])


@pytest.mark.parametrize('kind', ['OptimWrapper', 'AmpOptimWrapper'])
def test_wrappers_accumulate_and_step(kind, monkeypatch):
    # mmengine asserts an accelerator, though its wrapper works on the CPU in bfloat16.
    amp = 'mmengine.optim.optimizer.amp_optimizer_wrapper'
    monkeypatch.setattr(f'{amp}.is_cuda_available', lambda: True)
    extra = {'loss_scale': {'enabled': False}} if kind == 'AmpOptimWrapper' else {}
    model = FakeModel()
    optim_wrapper = build(model, wrapper={'type': kind, 'accumulative_counts': 2, **extra})
    weight = model.decode_head.weight
    before = weight.detach().clone()
    optim_wrapper.initialize_count_status(model, 0, 4)
    for step in range(2):
        loss = model.decode_head(torch.ones(1, 4, 2, 2)).square().mean()
        optim_wrapper.update_params(loss)
        assert torch.equal(weight, before) == (step == 0)


def test_resume_restores_groups():
    model = FakeModel()
    optim_wrapper = build(model)
    state = optim_wrapper.state_dict()
    again = build(model)
    again.load_state_dict(state)
    assert settings(model, again) == settings(model, optim_wrapper)


def test_resolves_from_child_scopes():
    child = Registry('optim_wrapper_constructor', parent=OPTIM_WRAPPER_CONSTRUCTORS, scope='child')
    assert child.get('LayerDecayOptimWrapperConstructor') is not None


@pytest.mark.parametrize(
    ('paramwise', 'message'),
    [
        ({'decay_rate': 0.9}, 'layer_decay_rate'),
        ({'num_layers': 12}, 'counted here'),
        ({'layer_decay_rate': 1.5}, r'in \(0, 1\]'),
        ({'layer_decay_rate': 0}, r'in \(0, 1\]'),
        ({'layer_decay_rate': None}, 'None'),
        ({'custom_keys': {'head': {'lr': 1}}}, 'lr_mult'),
    ],
)
def test_bad_options(paramwise, message):
    with pytest.raises(ValueError, match=message):
        build(FakeModel(), **paramwise)


def test_missing_weight_decay_is_refused():
    with pytest.raises(ValueError, match='weight_decay'):
        build(FakeModel(), wrapper={'optimizer': {'type': 'AdamW', 'lr': LR}})


def test_model_without_vit_is_refused():
    with pytest.raises(ValueError, match=r'layer_groups\(\)'):
        build(nn.Conv2d(1, 1, 1))


def test_unmatched_parameters_are_refused():
    vit = FakeViT()
    vit.layer_groups = lambda: {'pos_embed': 0}
    with pytest.raises(ValueError, match=r"belong to no layer: \['blocks"):
        build(FakeModel(vit))


def test_layers_out_of_range_are_refused():
    vit = FakeViT()
    groups = vit.layer_groups() | {'pos_embed': 7}
    vit.layer_groups = lambda: groups
    with pytest.raises(ValueError, match=r"layer 7 of 'pos_embed'"):
        build(FakeModel(vit))
