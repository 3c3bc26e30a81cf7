"""TimmPyramid against timm itself, one small model per peculiarity."""

import pytest
import timm
import torch
from mmengine.config import ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from small_pyramids import SMALL, SWIN, build, every_model, sizes, some_models
from torch import nn

import vit_dense.engine  # noqa: F401 - registers the constructor
from vit_dense.backbones import TimmPyramid


@every_model
def test_maps_equal_timm_bit_for_bit(name):
    pyramid = build(name).eval()
    for parameter in pyramid.parameters():  # parts that start at zero must take part
        nn.init.normal_(parameter, std=0.05)
    kwargs, needed = SMALL[name]
    size = (224, 224) if name.startswith('hiera') else (128, 192)
    twin = timm.create_model(
        name, features_only=True, **kwargs, **needed, out_indices=(-4, -3, -2, -1)
    ).eval()
    own = pyramid.model.state_dict()
    theirs = {key.replace('model.', '', 1): key for key in twin.state_dict()}
    state = {theirs.get(key) or key.replace('.', '_', 1): value for key, value in own.items()}
    unused = twin.load_state_dict(state, strict=False).missing_keys
    assert [key for key in unused if not key.startswith(('norm', 'head', 'final'))] == []
    image = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = twin(image)
        maps = pyramid(image)
    for x, y in zip(maps, expected, strict=True):
        y = y.permute(0, 3, 1, 2) if name.startswith('swin') else y  # timm gives NHWC here
        assert torch.equal(x, y)


@every_model
def test_any_size_gives_four_strides_and_reaches_every_parameter(name):
    pyramid = build(name, norm_eval=True).train()
    for size in ((32, 33), (70, 101)):
        maps = pyramid(torch.randn(2, 3, *size))
        assert [tuple(x.shape[-2:]) for x in maps] == sizes(*size)
        assert tuple(x.shape[1] for x in maps) == pyramid.out_channels
    sum(x.square().mean() for x in maps).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in pyramid.parameters())


def test_hiera_goes_back_to_its_trained_size():
    pyramid = build('hiera_tiny_224').eval()
    nn.init.normal_(pyramid.model.pos_embed)
    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        before = pyramid(image)
        pyramid(torch.randn(1, 3, 96, 160))
        after = pyramid(image)
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))


def test_hiera_s_positions_follow_the_image():
    """A grid twice as fine has, at 2x2 tokens, about the mean that the trained one has there."""
    pyramid = build('hiera_tiny_224').eval()
    ramp = torch.linspace(0, 1, 56)[None, :, None, None].expand(1, 56, 56, 24)
    pyramid.model.pos_embed.data = ramp.reshape(1, 56 * 56, 24).contiguous()
    pyramid.family.set_size(pyramid.model, (448, 448))
    positions = pyramid.model._pos_embed(torch.zeros(1, 112 * 112, 24))
    means = positions.reshape(1, 56, 2, 56, 2, 24).mean((2, 4))
    torch.testing.assert_close(means, ramp, atol=5e-3, rtol=0)


SWIN_V2 = pytest.mark.parametrize(
    ('name', 'trained', 'cells'),
    [
        ('swinv2_tiny_window8_256', 256, 8),
        ('swinv2_tiny_window16_256', 256, 8),  # cut from 16 to the last map's 8
        ('swinv2_cr_tiny_ns_224', 224, 7),
    ],
)


def build_swin_v2(name: str) -> TimmPyramid:
    pyramid = TimmPyramid(name, model_kwargs=SWIN).eval()
    for parameter in pyramid.parameters():
        nn.init.normal_(parameter, std=0.05)
    return pyramid


@SWIN_V2
def test_swin_v2_s_last_windows_shift_in_larger_images(name, trained, cells):
    """What one window holds reaches its neighbours in the stage that timm never shifts."""
    pyramid = build_swin_v2(name)
    stages = pyramid.model.layers if hasattr(pyramid.model, 'layers') else pyramid.model.stages
    first, second = (stages[-1].blocks[i] for i in (0, 1))
    x = torch.randn(1, 2 * cells, 2 * cells, first.dim, generator=torch.manual_seed(0))
    nudged = x.clone()
    nudged[0, cells - 1, cells - 1] += 1  # the corner where four windows meet
    with torch.no_grad():
        apart = (first(nudged) != first(x)).any(-1)[0]
        joined = (second(nudged) != second(x)).any(-1)[0]
    inside = torch.zeros(2 * cells, 2 * cells, dtype=torch.bool)
    inside[:cells, :cells] = True
    assert torch.equal(apart, inside)
    shift = cells // 2
    inside[:] = False
    inside[shift : shift + cells, shift : shift + cells] = True
    assert torch.equal(joined, inside)
    with torch.no_grad():  # one window along the height: shifted along the width alone
        flat = (second(nudged[:, :cells]) != second(x[:, :cells])).any(-1)[0]
    inside = torch.zeros(cells, 2 * cells, dtype=torch.bool)
    inside[:, shift : shift + cells] = True
    assert torch.equal(flat, inside)


@SWIN_V2
def test_swin_v2_gives_timm_s_maps_of_trained_images(name, trained, cells):
    pyramid = build_swin_v2(name)
    twin = timm.create_model(name, num_classes=0, strict_img_size=False, **SWIN).eval()
    twin.load_state_dict(pyramid.model.state_dict(), strict=False)
    for size, same in (((trained, trained), True), ((96, 64), True), ((2 * trained, 64), False)):
        image = torch.randn(1, 3, *size)
        with torch.no_grad():
            maps = pyramid(image)
            expected = twin.forward_intermediates(image, intermediates_only=True)
        assert torch.equal(maps[-1], expected[-1]) is same


def test_max_vit_s_padding_follows_its_windows():
    """As its docstring tells users, who choose crops by it."""
    name = 'maxvit_rmlp_pico_rw_256'
    assert TimmPyramid(name)._divisor == 256
    pyramid = TimmPyramid(name, model_kwargs={'img_size': 128}).eval()
    assert pyramid._divisor == 128
    with torch.no_grad():
        pyramid(torch.randn(1, 3, 128, 128))


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('vit_tiny_patch16_224', "is a plain ViT.*type='ViTAdapter'"),
        ('shvit_s1', r'strides \[16, 32, 64\]; TimmPyramid needs all of \[4, 8, 16, 32\]'),
        ('botnet26t_256', r'cannot take images of any size: .*AssertionError: '
         r'timm\.layers\.bottleneck_attn asks for `_assert\(H == self\.pos_embed\.height'),
        ('coat_lite_tiny', "Input height .* doesn't match model"),
        ('inception_v3', 'unpadded layers'),
        ('mixer_s32_224', 'fit one number of them, hence one image size: it is neither'),
        ('pit_ti_224', 'shrinks its token grid between blocks'),
        ('convit_tiny', "is a plain ViT.*type='ViTAdapter'"),
        ('swin_tiny_patch4_window7', 'is not a timm model; nearest names'),
        ('resnet50.nobody', 'knows no pretrained tag'),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_when_built(name, message):
    with pytest.raises(ValueError, match=message):
        TimmPyramid(name)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'pretrained': True, 'checkpoint': 'a.pth'}, 'set one of them'),
        ({'checkpoint': {'path': 'a.pth'}}, 'give the path alone'),
        ({'drop_path_rate': 1.0}, r'a share in \[0, 1\)'),
        ({'frozen_stages': 5}, 'allowed are -1'),
        ({'model_kwargs': {'features_only': True}}, 'features_only'),
        ({'model_kwargs': {'colour': 1}}, 'could not build.*colour'),
        ({'norm': 'IN'}, "norm='IN'"),
    ],
)  # fmt: skip
def test_mistakes_end_in_one_clear_error(kwargs, message):
    with pytest.raises(ValueError, match=message):
        TimmPyramid('test_resnet', **kwargs)


def test_unfit_images_are_refused():
    pyramid = build('test_resnet')
    for shape in ((1, 4, 64, 64), (1, 3, 31, 64), (3, 64, 64)):
        with pytest.raises(ValueError, match=r'takes \(B, 3, H, W\) with H, W >= 32'):
            pyramid(torch.zeros(shape))


@pytest.mark.parametrize('stages', [-1, 0, 2, 4])
def test_freezing(stages):
    pyramid = build('test_convnext', frozen_stages=stages, drop_path_rate=0.2).train()
    frozen = {n.split('.')[1] + n.split('.')[2] for n, p in pyramid.named_parameters()
              if not p.requires_grad}  # fmt: skip
    expected = {-1: set(), 0: {'stem0', 'stem1'}}.get(
        stages, {'stem0', 'stem1', *(f'stages{i}' for i in range(stages))}
    )
    assert frozen == expected
    training = [stage.training for stage in pyramid.model.stages]
    assert training == [i >= stages for i in range(4)]
    maps = pyramid(torch.randn(2, 3, 64, 64))
    assert [x.requires_grad for x in maps] == [i >= stages for i in range(4)]
    if 0 < stages < 4:  # the frozen stages have no stochastic depth left
        again = pyramid(torch.zeros(2, 3, 64, 64))
        assert torch.equal(again[stages - 1], pyramid(torch.zeros(2, 3, 64, 64))[stages - 1])


def test_batch_norms_keep_their_statistics_on_request():
    pyramid = build('test_resnet', norm_eval=True).train()
    before = {n: b.clone() for n, b in pyramid.named_buffers()}
    pyramid(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(b, before[n]) for n, b in pyramid.named_buffers())
    assert pyramid.model.training


def test_it_is_built_without_gradients_all_the_same():
    with torch.no_grad():
        pyramid = build('test_convnext', frozen_stages=1)
    assert any(p.requires_grad for p in pyramid.parameters())


def test_norms_of_its_own_make_maps_of_zero_mean():
    pyramid = build('test_convnext', norm='LN').eval()
    for x in pyramid(torch.randn(1, 3, 64, 96)):
        torch.testing.assert_close(x.mean(1), torch.zeros_like(x[:, 0]), atol=1e-5, rtol=0)


def test_drop_path_is_ours_to_set():
    """timm's Swin has a rate of 0.1 by default."""

    def rates(pyramid):
        return [m.drop_prob for m in pyramid.modules() if type(m).__name__ == 'DropPath']

    assert not any(rates(build('swin_tiny_patch4_window7_224')))
    assert max(rates(build('swin_tiny_patch4_window7_224', drop_path_rate=0.3))) == pytest.approx(
        0.3
    )


def test_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        pyramid = build('swin_tiny_patch4_window7_224', grad_checkpointing=checkpointing).train()
        torch.manual_seed(1)
        sum(x.square().mean() for x in pyramid(torch.randn(1, 3, 64, 96))).backward()
        gradients.append({n: p.grad for n, p in pyramid.named_parameters()})
    torch.testing.assert_close(gradients[0], gradients[1])


def optimizer(pyramid: TimmPyramid, rate: float = 0.5):
    model = nn.ModuleDict({'backbone': pyramid, 'head': nn.Conv2d(4, 4, 1)})
    config = ConfigDict(
        {
            'type': 'OptimWrapper',
            'constructor': 'LayerDecayOptimWrapperConstructor',
            'optimizer': {'type': 'AdamW', 'lr': 1.0, 'weight_decay': 0.1},
            'paramwise_cfg': {'layer_decay_rate': rate},
        }
    )
    groups = build_optim_wrapper(model, config).optimizer.param_groups
    scales = {id(p): g['lr_scale'] for g in groups for p in g['params']}
    return {n: scales[id(p)] for n, p in model.named_parameters()}


@some_models
def test_layer_decay_rises_from_the_stem_to_the_heads(name):
    pyramid = build(name, norm='LN')
    if name == 'poolformer_s12':
        with pytest.raises(ValueError, match="timm does not say which layers 'poolformer_s12' has"):
            optimizer(pyramid)
        return
    scales = optimizer(pyramid)
    layers = pyramid.layer_groups()
    assert layers.keys() == dict(pyramid.named_parameters()).keys()
    assert scales['head.weight'] == scales['backbone.norms.0.weight'] == 1
    for key, layer in layers.items():
        assert scales[f'backbone.{key}'] == pytest.approx(0.5 ** (pyramid.depth + 1 - layer))
    assert min(layers.values()) == 0


def test_it_is_registered_for_every_scope():
    for package in ('mmseg', 'mmdet'):
        registry = pytest.importorskip(f'{package}.registry').MODELS
        assert registry.get('TimmPyramid') is TimmPyramid
    assert isinstance(
        MODELS.build({'type': 'TimmPyramid', 'model_name': 'test_resnet'}), TimmPyramid
    )


@pytest.mark.parametrize('name', ['mobilevitv2_050', 'efficientnet_b0'])
def test_synchronised_norms_keep_their_activations(name):
    """As mmengine converts a model for several processes, with sync_bn='torch'."""
    torch.manual_seed(0)
    pyramid = TimmPyramid(name).eval()
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = pyramid(image)
        found = torch.nn.SyncBatchNorm.convert_sync_batchnorm(pyramid).eval()(image)
    assert any(isinstance(module, torch.nn.SyncBatchNorm) for module in pyramid.modules())
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y)
