"""Distillation: the features of a frozen ViT are the targets, and it stays out of the training."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch.nn.parallel import DistributedDataParallel

import vit_dense.pretraining  # noqa: F401 - registers
from vit_dense.backbones import TimmViT
from vit_dense.pretraining.check_hook import PretrainingCheckHook

DECODER = {'width': 32, 'depth': 1, 'heads': 2}
WIDTH = 48


@pytest.fixture
def teacher(tmp_path):
    """Make the arguments of a teacher with weights of its own."""

    def make(name='vit_tiny_patch16_224', **kwargs):
        torch.manual_seed(5)
        kwargs = {'embed_dim': WIDTH, 'num_heads': 3, 'depth': 2, **kwargs}
        vit = TimmViT(name, model_kwargs=kwargs, final_norm=True)
        for parameter in vit.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        torch.save(vit.model.state_dict(), tmp_path / f'{name}.pth')
        checkpoint = str(tmp_path / f'{name}.pth')
        return {'model_name': name, 'model_kwargs': kwargs, 'checkpoint': checkpoint}

    return make


def build(teacher, *, vit=None, load=True, **options):
    vit = {'model_name': 'test_vit', **(vit or {})}
    images = {'type': 'BandsPreprocessor', 'mean': [127.5] * 3, 'std': [127.5] * 3}
    config = {'vit': vit, 'decoder': DECODER, 'teacher': teacher, 'data_preprocessor': images}
    config.update(options)
    model = MODELS.build({'type': 'MaskedAutoencoder', **config})
    if load:
        model.init_weights()
    return model


def timm_features(model, image):
    """The teacher's normalised map (B, C, h, w), by timm alone."""
    (features,) = model.teacher.vit.model.forward_intermediates(
        image, indices=1, norm=True, intermediates_only=True
    )
    return features


@torch.no_grad()
def test_targets_are_normalised_features_of_the_same_pixels(teacher):
    """Images are normalised by values of their own, the teacher's are 0.5."""
    mean, std = [100.0, 110, 120], [50.0, 60, 70]
    images = {'type': 'BandsPreprocessor', 'mean': mean, 'std': std}
    model = build(teacher(), data_preprocessor=images)
    PretrainingCheckHook().check_model(model)
    pixels = torch.rand(2, 3, 32, 48)
    mean, std = (torch.tensor(x).view(3, 1, 1) / 255 for x in (mean, std))
    expected = timm_features(model, (pixels - 0.5) / 0.5).permute(0, 2, 3, 1).flatten(1, 2)
    expected = (expected - expected.mean(-1, keepdim=True)) / (
        expected.var(-1, correction=0, keepdim=True) + 1e-5
    ).sqrt()
    found = model.teacher.targets((pixels - mean) / std)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_targets_of_another_patch_size_are_at_the_students_patches(teacher):
    """Patches of 8 px under patches of 16: the mean of four."""
    mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]  # as its weights
    images = {'type': 'BandsPreprocessor', 'mean': mean, 'std': std}
    model = build(teacher('vit_small_patch8_224'), data_preprocessor=images)
    image = torch.rand(1, 3, 32, 48)
    features = F.avg_pool2d(timm_features(model, image), 2)
    expected = F.layer_norm(features.permute(0, 2, 3, 1).flatten(1, 2), (WIDTH,))
    torch.testing.assert_close(model.teacher.targets(image), expected)
    image = torch.rand(1, 3, 64, 112)
    model = build(teacher('vit_small_patch14_dinov2', img_size=112))
    assert model.teacher.targets(image).shape == (1, 4 * 7, WIDTH)


def test_loss_by_hand(teacher):
    """Smooth L1 with beta 2, of masked and visible patches."""
    model = build(teacher(), loss_weights={'features': 0.5})
    torch.nn.init.zeros_(model.decoder.heads['features'].weight)
    torch.nn.init.constant_(model.decoder.heads['features'].bias, 3)
    image = torch.randn(1, 3, 32, 32)
    apart = [abs(3 - x) for x in model.teacher.targets(image).flatten().tolist()]
    assert min(apart) < 2 < max(apart)
    expected = sum(x * x / 4 if x < 2 else x - 1 for x in apart) / len(apart)
    losses = model(image, mode='loss')
    assert losses.keys() == {'loss_pixels', 'loss_features'}
    assert losses['loss_features'].item() == pytest.approx(0.5 * expected, rel=1e-5)


@pytest.mark.usefixtures('process_group')
@pytest.mark.parametrize(
    ('weights', 'heads'),
    [({}, {'pixels', 'features'}), ({'pixels': 0}, {'features'}), ({'features': 0}, {'pixels'})],
)
def test_an_objective_of_weight_0_has_no_parameters(teacher, weights, heads):
    model = build(teacher(), loss_weights=weights)
    assert set(model.decoder.heads) == heads
    assert (model.teacher is None) == ('features' not in heads)
    wrapped = DistributedDataParallel(model)
    for _ in range(2):  # it complains of unused parameters at the second step
        losses = wrapped(torch.randn(1, 3, 64, 64), mode='loss')
        assert losses.keys() == {f'loss_{name}' for name in heads}
        sum(losses.values()).backward()
    if 'pixels' not in heads:
        with pytest.raises(ValueError, match=r'loss_weights.pixels=0: no pixels'):
            model.reconstruct(torch.zeros(1, 3, 64, 64))


def test_teacher_is_frozen_and_in_no_state_dict(teacher):
    options = teacher(attn_drop_rate=0.5, proj_drop_rate=0.5)
    model = build(options).train()
    assert not [name for name in model.state_dict() if 'teacher' in name]
    assert not [name for name, _ in model.named_parameters() if 'teacher' in name]
    image = torch.randn(2, 3, 32, 32)
    first = model.teacher.targets(image)
    assert not first.requires_grad
    assert torch.equal(model.teacher.targets(image), first)  # no dropout
    sum(model(image, mode='loss').values()).backward()
    assert not [p for p in model.teacher.vit.parameters() if p.requires_grad or p.grad is not None]


def test_weights_are_loaded_by_init_weights(teacher):
    options = teacher()
    model = build(options, load=False)
    loaded = torch.load(options['checkpoint'], weights_only=True)
    weight = model.teacher.vit.model.blocks[1].attn.qkv.weight
    assert not torch.equal(weight, loaded['blocks.1.attn.qkv.weight'])
    model.init_weights()
    assert torch.equal(weight, loaded['blocks.1.attn.qkv.weight'])
    assert torch.equal(model.teacher.vit.model.norm.bias, loaded['norm.bias'])


@pytest.mark.parametrize(
    'images',
    [
        {'type': 'BandsPreprocessor', 'mean': [2000.0] * 3, 'std': [900.0] * 3},
        {'type': 'BandsPreprocessor', 'mean': [0.5] * 3, 'std': [0.2] * 3},
        {'type': 'ImgDataPreprocessor'},
    ],
)
def test_other_units_than_grey_levels_are_refused(teacher, images):
    model = build(teacher(), data_preprocessor=images)
    with pytest.raises(ValueError, match=r'mean and std of images in 0\.\.255.*max_value'):
        PretrainingCheckHook().check_model(model)


def test_random_features_are_no_target(teacher):
    with pytest.raises(ValueError, match=r'teacher=.* names no weights.*pretrained=True'):
        build({**teacher(), 'checkpoint': None})


def test_a_teacher_of_other_bands_is_refused(teacher):
    student = {'model_kwargs': {'in_chans': 4}}
    with pytest.raises(ValueError, match=r'takes 3 bands and vit 4: .*in_chans=4'):
        build(teacher(), vit=student)
