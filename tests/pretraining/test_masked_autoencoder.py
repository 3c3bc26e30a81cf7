"""Masked autoencoding: masks, losses and pictures, on values worked out by hand."""

import math

import pytest
import torch
from families import UNNORMED, every_droppable_family, small_kwargs
from mmengine.registry import MODELS
from torch.nn.parallel import DistributedDataParallel

import vit_dense.pretraining  # noqa: F401 - registers
from vit_dense.engine.step_seed import STEP, seed_generators
from vit_dense.layers import sincos_positions

PATCH = 16
DECODER = {'width': 32, 'depth': 1, 'heads': 2}


def build(name='test_vit', *, vit=None, **options):
    vit = {'model_name': name, **(vit or {})}
    return MODELS.build({'type': 'MaskedAutoencoder', 'vit': vit, 'decoder': DECODER, **options})


def predict_constant(model, value):
    torch.nn.init.zeros_(model.decoder.heads['pixels'].weight)
    torch.nn.init.constant_(model.decoder.heads['pixels'].bias, value)


@pytest.mark.parametrize('name', ['test_vit', 'vit_small_patch16_dinov3'])
def test_encoder_on_all_patches_is_the_vit(name):
    kwargs = {'depth': 2, 'embed_dim': 48, 'num_heads': 3}
    model = build(name, vit={'model_kwargs': kwargs}).eval()
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        (expected,) = model.vit.model.forward_intermediates(
            image, indices=1, norm=True, intermediates_only=True
        )
        assert torch.equal(model.encode(image), expected)
        assert torch.equal(model(image), expected)
        assert torch.equal(model(image, mode='predict')[1]['features'], expected[1])
        every = torch.arange(24).expand(2, -1)
        assert torch.equal(model.vit.to_map(*model._run_vit(image, every)), expected)


def test_final_norm_is_left_out_where_there_is_none():
    kwargs = {'embed_dim': 48, 'num_heads': 3, 'depth': 2}
    model = build('eva02_tiny_patch14_224', vit={'model_kwargs': kwargs})
    assert model.vit.final_norm is False
    assert model(torch.randn(1, 3, 56, 28), mode='loss')['loss_pixels'] > 0


@pytest.mark.parametrize(('norm_pixels', 'expected'), [(True, 1 / (768 / 767 + 1e-6)), (False, 2)])
def test_loss_by_hand(norm_pixels, expected):
    """Half of a patch is 0 and half is 2: mean 1, unbiased variance 768 / 767, square 2."""
    model = build(mask_ratio=0.5, norm_pixels=norm_pixels)
    predict_constant(model, 0)
    image = torch.zeros(2, 3, PATCH, 4 * PATCH)
    image[..., ::2] = 2
    found = model(image, mode='loss')
    assert found.keys() == {'loss_pixels'}
    assert found['loss_pixels'].item() == pytest.approx(expected, rel=1e-6)
    predict_constant(model, 1)
    expected = expected + 1 if norm_pixels else 1
    assert model(image, mode='loss')['loss_pixels'].item() == pytest.approx(expected, rel=1e-6)


def test_loss_counts_masked_patches_alone():
    model = build(mask_ratio=0.75, norm_pixels=False, loss_weights={'pixels': 0.5})
    predict_constant(model, 1)
    image = torch.randn(3, 3, 2 * PATCH, 4 * PATCH)
    torch.manual_seed(3)
    _, masked = model._draw_mask(image)
    errors = [
        (image[b, c, PATCH * i + y, PATCH * j + x].item() - 1) ** 2
        for b, i, j in masked.nonzero().tolist()
        for c in range(3)
        for y in range(PATCH)
        for x in range(PATCH)
    ]
    torch.manual_seed(3)
    found = model(image, mode='loss')['loss_pixels'].item()
    assert found == pytest.approx(0.5 * sum(errors) / len(errors), rel=1e-5)


@pytest.mark.parametrize('channels', [1, 5])
def test_order_of_pixels_in_a_patch(channels):
    """A decoder that repeats the first image's pixels has no loss on it, at a rectangle."""
    model = build(norm_pixels=False, vit={'model_kwargs': {'in_chans': channels}})
    image = torch.randn(1, channels, PATCH, PATCH).repeat(1, 1, 2, 3)
    predict_constant(model, 0)
    with torch.no_grad():
        model.decoder.heads['pixels'].bias.copy_(
            torch.stack(
                [
                    image[0, c, y, x]
                    for c in range(channels)
                    for y in range(PATCH)
                    for x in range(PATCH)
                ]
            )
        )
    assert model(image, mode='loss')['loss_pixels'].item() < 1e-12
    assert torch.equal(model.reconstruct(image)[0], image)


def test_masks_are_random_and_of_one_size():
    model = build()
    image = torch.zeros(400, 3, 2 * PATCH, 5 * PATCH)
    visible, masked = model._draw_mask(image)
    assert visible.shape == (400, 2)  # 10 * 0.25, rounded down
    assert masked.shape == (400, 2, 5)
    assert (masked.flatten(1).sum(1) == 8).all()
    assert not masked.flatten(1).gather(1, visible).any()
    assert len({tuple(one.tolist()) for one in visible}) > 60  # of 90 ordered pairs
    shares = 1 - masked.float().mean(0)
    assert (shares - 0.2).abs().max() < 0.08  # four standard deviations
    model.mask_ratio = 0.9
    assert model._draw_mask(image)[0].shape == (400, 1)


def test_masks_follow_from_seed_iteration_and_rank():
    model, image = build(), torch.zeros(2, 3, 64, 64)
    drawn = []
    for iteration, rank in ((7, 0), (7, 0), (8, 0), (7, 1)):
        torch.rand(iteration + rank)
        seed_generators(STEP, 0, iteration, rank)
        drawn.append(model._draw_mask(image)[1])
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[3])


def test_reconstruction_keeps_visible_patches_and_the_level_of_masked_ones():
    model = build(mask_ratio=0.5)
    predict_constant(model, 0.5)
    image = torch.randn(2, 3, 32, 64) * 3 + 7
    found, masked = model.reconstruct(image)
    for b in range(2):
        for i in range(2):
            for j in range(4):
                rows, columns = (
                    slice(i * PATCH, i * PATCH + PATCH),
                    slice(j * PATCH, (j + 1) * PATCH),
                )
                patch = image[b, :, rows, columns]
                if masked[b, i, j]:
                    patch = (patch.mean() + 0.5 * patch.std()).expand_as(patch)
                torch.testing.assert_close(found[b, :, rows, columns], patch)


def test_sine_cosine_positions():
    """Of the release: sines then cosines of the column, then of the row."""
    found = sincos_positions((2, 3), 16)
    for row in range(2):
        for column in range(3):
            angles = [[place / 10000 ** (k / 4) for k in range(4)] for place in (column, row)]
            expected = [f(x) for axis in angles for f in (math.sin, math.cos) for x in axis]
            torch.testing.assert_close(found[3 * row + column], torch.tensor(expected))


@pytest.mark.parametrize(
    ('name', 'prefix'), [('test_vit', 1), ('deit_tiny_distilled_patch16_224', 2),
                         ('vit_base_patch16_siglip_224', 0), ('cait_xxs24_224', 0)]
)  # fmt: skip
def test_learned_positions_start_at_sine_cosine_values(name, prefix, tmp_path):
    kwargs = {'embed_dim': 48, 'num_heads': 3, 'depth': 1, 'img_size': (32, 48)}
    model = build(name, vit={'model_kwargs': kwargs})
    positions = model.vit.model.pos_embed
    assert positions.requires_grad
    assert not positions[:, :prefix].any()
    assert torch.equal(positions[0, prefix:], sincos_positions((2, 3), 48))
    torch.nn.init.normal_(positions)
    torch.save(model.vit.model.state_dict(), tmp_path / 'vit.pth')
    model = build(name, vit={'model_kwargs': kwargs, 'checkpoint': str(tmp_path / 'vit.pth')})
    model.init_weights()
    assert torch.equal(model.vit.model.pos_embed, positions)


@every_droppable_family
def test_every_parameter_is_trained(name):
    model = build(name, vit={'model_kwargs': small_kwargs(name)}).train()
    edge = model.vit.patch_size
    model(torch.randn(2, 3, 2 * edge, 4 * edge), mode='loss')['loss_pixels'].backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    assert model.vit.final_norm == (name not in UNNORMED)


def test_bands_and_recomputed_blocks():
    model = build(vit={'model_kwargs': {'in_chans': 5}, 'grad_checkpointing': True}).train()
    image = torch.randn(2, 5, 64, 32)
    model(image, mode='loss')['loss_pixels'].backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]


def test_names_in_a_checkpoint():
    names = build().state_dict()
    assert {'.'.join(name.split('.')[:2]) for name in names} == {
        'vit.model', 'decoder.mask_token', 'decoder.embed', 'decoder.blocks', 'decoder.norm',
        'decoder.heads',
    }  # fmt: skip


@pytest.mark.usefixtures('process_group')
@pytest.mark.parametrize('frozen_stages', [-1, 2])
def test_ddp_finds_no_unused_parameter(frozen_stages):
    model = build(vit={'frozen_stages': frozen_stages})
    wrapped = DistributedDataParallel(model)
    for _ in range(2):  # it complains at the second step
        sum(wrapped(torch.randn(1, 3, 64, 64), mode='loss').values()).backward()


@pytest.mark.slow
def test_compiles_without_a_break():
    model, image = build(vit={'model_kwargs': {'depth': 1}}), torch.randn(2, 3, 64, 64)
    expected, compiled = model.loss, torch.compile(model.loss, backend='eager', fullgraph=True)
    torch.manual_seed(1)
    expected = expected(image)['loss_pixels']
    torch.manual_seed(1)
    torch.testing.assert_close(compiled(image)['loss_pixels'], expected)


def test_autocast_computes_the_loss_in_float32():
    model, image = build(), torch.randn(2, 3, 64, 64)
    torch.manual_seed(1)
    expected = model(image, mode='loss')['loss_pixels']
    torch.manual_seed(1)
    kinds = []
    hook = model.decoder.blocks[0].register_forward_pre_hook(
        lambda _, given: kinds.append(given[0].dtype)
    )
    with hook, torch.autocast('cpu', torch.bfloat16):
        found = model(image, mode='loss')['loss_pixels']
    assert found.dtype == torch.float32
    assert kinds == [torch.float32]  # the sum of the decoder's blocks is not rounded
    torch.testing.assert_close(found, expected, rtol=0.01, atol=0)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'mask_ratio': 0}, r'mask_ratio=0: give a share between 0 and 1'),
        ({'mask_ratio': 1.0}, r'mask_ratio=1.0: give a share'),
        ({'mask_ratio': 75}, r'mask_ratio=75: give a share'),
        ({'vit': {'window_size': 2}}, r"window_size=2 of 'test_vit': windows need all patches"),
        ({'name': 'beit_base_patch16_224', 'vit': {'model_kwargs': {'depth': 1}}},
         r"model_name='beit_base_patch16_224' cannot leave patches out: its blocks add"),
        ({'decoder': {'width': 30, 'heads': 4}}, r'decoder=dict\(width=30, depth=8, heads=4\)'),
        ({'loss_weights': {'pixels': 0}}, r"loss_weights=\{'pixels': 0\}: give"),
        ({'loss_weights': {'pixel': 1}}, r"loss_weights=\{'pixel': 1\}: give"),
        ({'loss_weights': {'features': 1}}, r'features only with teacher='),
        ({'loss_weights': {'pixels': math.nan}}, r"loss_weights=\{'pixels': nan\}: give"),
        ({'vit': {'frozen_stages': 6}}, r"'frozen_stages': 6\} is frozen.*leave frozen_stages out"),
        ({'vit': {'type': 'CachedTimmViT'}}, r"is frozen.*set type='TimmViT'"),
    ],
)  # fmt: skip
def test_arguments_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


@pytest.mark.parametrize(
    ('size', 'message'),
    [
        ((8, 8), r'got images of 8x8 px .* for patches of 16 px'),
        ((32, 40), r'got images of 32x40 px .* multiples of 16'),
        ((16, 16), r'mask_ratio=0.75 makes 0 of the 1 patches of an image visible'),
    ],
)
@pytest.mark.parametrize('mode', ['loss', 'predict'])
def test_images_are_checked(size, message, mode):
    with pytest.raises(ValueError, match=message):
        build()(torch.zeros(1, 3, *size), mode=mode)


def test_a_small_mask_ratio_leaves_no_masked_patch():
    with pytest.raises(ValueError, match=r'mask_ratio=1e-08 makes 4 of the 4 patches'):
        build(mask_ratio=1e-8)(torch.zeros(1, 3, 32, 32), mode='loss')
