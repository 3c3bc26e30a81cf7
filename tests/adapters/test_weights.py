"""The user's weights survive mmengine's initialisation, for every family."""

import pytest
import timm
import torch
from families import every_family, small_kwargs
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from timm.layers import resample_patch_embed
from torch.utils.data import DataLoader

from vit_dense.adapters import ViTAdapter
from vit_dense.weights import CheckpointMismatchError


class Toy(BaseModel):
    """A model around an adapter, as mmseg's and mmdet's are."""

    def __init__(self, backbone: torch.nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, inputs, data_samples=None, mode='loss'):
        return {'loss': sum(x.mean() for x in self.backbone(torch.stack(inputs)))}


def classifier(name: str, path, seed: int = 1):
    """A timm classifier with random weights, saved as timm saves checkpoints."""
    torch.manual_seed(seed)
    model = timm.create_model(name, num_classes=5, **small_kwargs(name))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    torch.save({'state_dict': model.state_dict(), 'epoch': 3, 'arch': name}, path)
    return model


def adapter(name: str, **vit):
    vit = {'type': 'TimmViT', 'model_name': name, 'model_kwargs': small_kwargs(name), **vit}
    return ViTAdapter(vit, deform_num_heads=4 if name == 'test_vit' else 3, conv_inplane=8)


def assert_same_weights(vit, source):
    """All that the ViT has is the classifier's, bit for bit, but what a forward pass updates."""
    expected = vit.family.trunk(source).state_dict()
    for key, value in vit.model.state_dict().items():
        if 'running_' in key or key.endswith('num_batches_tracked'):  # XCiT has batch norms
            continue
        assert torch.equal(value, expected[key]), key


@every_family
def test_weights_after_the_runner_s_init(name, tmp_path):
    source = classifier(name, tmp_path / 'classifier.pth')
    model = Toy(adapter(name, checkpoint=str(tmp_path / 'classifier.pth')))
    own_before = model.backbone.level_embed.clone()
    runner = Runner(
        model,
        str(tmp_path / 'run'),
        train_dataloader=DataLoader([{'inputs': torch.zeros(3, 64, 64)}] * 2, batch_size=2,
                                    collate_fn=lambda x: {'inputs': [s['inputs'] for s in x]}),
        # a rate of zero: training changes nothing, so that what is compared is the init
        optim_wrapper=OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.0)),
        train_cfg={'by_epoch': False, 'max_iters': 1},
        experiment_name=f'init_{name}',
        default_hooks={'checkpoint': None, 'logger': None},
    )  # fmt: skip
    runner.train()
    assert_same_weights(runner.model.backbone.vit, source)
    assert torch.equal(runner.model.backbone.level_embed, own_before)


def released(tmp_path, **vit):
    """An adapter whose `pretrained=True` finds a local file that stands for timm's release.

    timm's own loader reads it; the file holds `test_vit` as timm registers it.
    """
    torch.manual_seed(1)
    source = timm.create_model('test_vit')
    torch.save(source.state_dict(), tmp_path / 'released.pth')
    overlay = {'file': str(tmp_path / 'released.pth')}
    kwargs = {'pretrained_cfg_overlay': overlay, **vit.pop('model_kwargs', {})}
    vit = {'type': 'TimmViT', 'model_name': 'test_vit', 'pretrained': True, **vit}
    vit['model_kwargs'] = kwargs
    return ViTAdapter(vit, deform_num_heads=4, conv_inplane=8), source


def test_pretrained_goes_through_timm(tmp_path):
    model, source = released(tmp_path)
    before = model.vit.model.cls_token.clone()
    assert not torch.equal(before, source.cls_token)  # nothing is loaded when it is built
    model.init_weights()
    assert_same_weights(model.vit, source)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'depth': 8}, r'test_vit|depth'),
        ({'depth': 4}, r'blocks'),
        ({'qk_norm': True}, r'q_norm'),
        ({'reg_tokens': 4}, r'reg_token'),
    ],
)
def test_pretrained_weights_of_another_form_are_refused(tmp_path, kwargs, message):
    """What timm would leave at random values must not pass for loaded."""
    model, _ = released(tmp_path, model_kwargs=kwargs)
    with pytest.raises(CheckpointMismatchError, match=message):
        model.init_weights()


def test_pretrained_kernels_are_resized_as_timm_does(tmp_path):
    kwargs = {'patch_size': 8, 'img_size': 160}
    model, source = released(tmp_path, model_kwargs=kwargs)
    model.init_weights()
    kernel = resample_patch_embed(source.patch_embed.proj.weight, (8, 8))
    torch.testing.assert_close(model.vit.model.patch_embed.proj.weight, kernel)
    assert model.vit.model.pos_embed.shape == (1, 401, 64)


def test_weights_that_cannot_be_had_say_what_to_do(monkeypatch):
    def offline(*args, **kwargs):
        raise OSError('no route to host')

    model = adapter('test_vit', pretrained=True)
    monkeypatch.setattr(timm, 'create_model', offline)
    with pytest.raises(ValueError, match=r'test_vit.*no route to host.*checkpoint="path'):
        model.init_weights()


def test_init_runs_once(tmp_path):
    classifier('test_vit', tmp_path / 'a.pth')
    model = adapter('test_vit', checkpoint=str(tmp_path / 'a.pth'))
    model.init_weights()
    torch.nn.init.zeros_(model.vit.model.cls_token)
    model.init_weights()
    assert not model.vit.model.cls_token.any()


def test_weights_of_another_model_are_refused(tmp_path):
    classifier('deit3_small_patch16_224', tmp_path / 'deit.pth')
    model = adapter('test_vit', checkpoint=str(tmp_path / 'deit.pth'))
    with pytest.raises(CheckpointMismatchError, match=r'deit\.pth'):
        model.init_weights()


def test_patch_size_that_contradicts_the_weights(tmp_path):
    classifier('vit_small_patch14_dinov2', tmp_path / 'dino.pth')
    kwargs = {k: v for k, v in small_kwargs('vit_small_patch14_dinov2').items() if k != 'img_size'}
    vit = {'checkpoint': str(tmp_path / 'dino.pth'), 'model_kwargs': {**kwargs, 'init_values': 1.0}}
    model = adapter('vit_tiny_patch16_224', **vit)
    with pytest.raises(ValueError, match=r'14.*16.*patch_size'):
        model.init_weights()
    # asked for explicitly, the kernel is resized
    vit['model_kwargs'] = {**vit['model_kwargs'], 'patch_size': 16}
    adapter('vit_tiny_patch16_224', **vit).init_weights()


def test_checkpoint_options_reach_the_loader(tmp_path):
    """A file of the right width but half the depth: refused, unless the config accepts it."""
    source = classifier('vit_tiny_patch16_224', tmp_path / 'shallow.pth')
    deeper = {**small_kwargs('vit_tiny_patch16_224'), 'depth': 8}
    path = str(tmp_path / 'shallow.pth')
    with pytest.raises(CheckpointMismatchError, match='min_matched'):
        adapter('vit_tiny_patch16_224', checkpoint=path, model_kwargs=deeper).init_weights()
    accepting = {'path': path, 'min_matched': 0}
    model = adapter('vit_tiny_patch16_224', checkpoint=accepting, model_kwargs=deeper)
    model.init_weights()
    assert torch.equal(model.vit.model.blocks[3].mlp.fc1.weight, source.blocks[3].mlp.fc1.weight)
