"""Released checkpoints through the Runner: `load_from` for tests and trainings, nothing else."""

import copy
import logging

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS
from mmengine.runner import Runner, load_checkpoint
from released_layouts import VIT_HEADS, image, released_state
from torch import nn
from torch.utils.data import DataLoader

from vit_dense.engine import CheckpointCheckHook
from vit_dense.released import recognise_released

TASK = 'segmentation'


class Toy(BaseModel):
    """An adapter and a head, named as in a segmentation model."""

    def __init__(self, backbone: dict, classes: int = 3) -> None:
        super().__init__()
        self.backbone = MODELS.build(backbone)
        self.decode_head = nn.Conv2d(32, classes, 1)

    def forward(self, inputs, mode='loss'):
        x = self.decode_head(self.backbone(torch.stack(inputs))[2])
        return {'loss': x.mean()} if mode == 'loss' else list(x)


class Count:
    """A metric that says how many samples it saw."""

    dataset_meta = None

    def process(self, *, data_samples, **_):
        pass

    def evaluate(self, size):
        return {'seen': size}


@pytest.fixture
def save(tmp_path):
    """Writes a released model as mmseg 0.x would, with or without its backbone's prefix."""

    def write(*, heads=True, **changes):
        backbone = released_state('ViTAdapter', TASK)
        state = {f'backbone.{name}': t for name, t in backbone.items()} if heads else backbone
        if heads:
            state |= {'decode_head.weight': torch.ones(3, 32, 1, 1)}
            state |= {'decode_head.bias': torch.ones(3)}
        state |= changes
        meta = {'mmseg_version': '0.20.2', 'iter': 160000, 'CLASSES': ('wall', 'sky', 'tree')}
        path = tmp_path / 'released.pth'
        torch.save({'meta': meta, 'state_dict': state, 'optimizer': {'state': {}}}, path)
        return path

    return write


def settings(**vit):
    released = recognise_released(released_state('ViTAdapter', TASK))
    config = copy.deepcopy(released.settings)
    config['vit']['model_kwargs']['num_heads'] = VIT_HEADS
    config['vit'] |= vit
    return config


def run(tmp_path, path, job='test', *, config=None, classes=3, resume=False, **hook):
    model = Toy(config or settings(), classes)
    data = DataLoader(list(image()), batch_size=2, collate_fn=lambda x: {'inputs': x})
    options = {'test_dataloader': data, 'test_evaluator': Count(), 'test_cfg': {}}
    if job == 'train':
        optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.0))
        train_cfg = {'by_epoch': False, 'max_iters': 1}
        options = {'train_dataloader': data, 'optim_wrapper': optimizer, 'train_cfg': train_cfg}
    runner = Runner(
        model,
        str(tmp_path),
        default_hooks={'logger': None, 'checkpoint': None},
        custom_hooks=[CheckpointCheckHook(**hook)],
        load_from=str(path),
        resume=resume,
        experiment_name=f'{tmp_path.name}_{job}',
        **options,
    )
    getattr(runner, job)()
    return model


@pytest.fixture
def log(monkeypatch):
    """All that is logged, as (level, text)."""
    lines = []
    monkeypatch.setattr(MMLogger, 'callHandlers', lambda _, r: lines.append(r))
    return lambda level: '\n'.join(r.getMessage() for r in lines if r.levelno == level)


def test_a_whole_model_is_tested(tmp_path, save, log):
    model = run(tmp_path, save())
    released = released_state('ViTAdapter', TASK)
    adapter = model.backbone
    assert torch.equal(adapter.vit.model.blocks[2].ls1.gamma, released['blocks.2.gamma1'])
    assert torch.equal(adapter.norm4.running_var, released['norm4.running_var'])
    assert bool((model.decode_head.weight == 1).all())
    assert 'released ViTAdapter, segmentation model' in log(logging.INFO)
    assert '0 missing, 0 unexpected' in log(logging.INFO)
    assert 'computes something else' not in log(logging.WARNING)


def test_it_starts_a_training_with_other_heads(tmp_path, save):
    model = run(tmp_path, save(), 'train', classes=5)
    released = released_state('ViTAdapter', TASK)
    assert torch.equal(model.backbone.level_embed, released['level_embed'])


def test_a_backbone_alone_starts_a_training_but_is_no_model(tmp_path, save):
    path = save(heads=False)
    model = run(tmp_path, path, 'train')
    assert torch.equal(model.backbone.up.weight, released_state('ViTAdapter', TASK)['up.weight'])
    with pytest.raises(ValueError, match=r'2 of 300 tensors are missing(?s:.*)decode_head\.weight'):
        run(tmp_path, path)


def test_another_function_is_warned_of(tmp_path, save, log):
    config = settings() | {'vit_feature_source': 'last'}
    run(tmp_path, save(), config=config)
    assert "vit_feature_source='last', but the release has 'stages'" in log(logging.WARNING)


@pytest.mark.parametrize('job', ['train', 'test'])
def test_a_cls_token_is_refused_with_the_settings(tmp_path, save, job):
    config = settings(type='TimmViT')
    with pytest.raises(
        ValueError, match=r"cls_token(?s:.*)wants model\.backbone=.*'ReleasedTimmViT'"
    ):
        run(tmp_path, save(), job, config=config)
    run(tmp_path, save(), job, config=config, strict=False)


@pytest.mark.parametrize('job', ['train', 'test'])
def test_what_is_left_over_of_the_backbone_is_refused(tmp_path, save, job):
    path = save(**{'backbone.blocks.4.norm1.weight': torch.ones(32)})
    with pytest.raises(
        ValueError, match=r'1 tensors of the file have no place(?s:.*)blocks\.4\.norm1'
    ):
        run(tmp_path, path, job)


def test_no_training_resumes_from_it(tmp_path, save):
    with pytest.raises(ValueError, match=r'no training can be resumed.*load_from'):
        run(tmp_path, save(), 'train', resume=True)


@pytest.mark.parametrize('load', [load_checkpoint, None])
def test_without_our_hook_the_backbone_is_loaded_all_the_same(save, load):
    """As `init_model` of mmseg and `init_detector` of mmdet load, and PyTorch itself."""
    model, path = Toy(settings()), save()
    if load is not None:
        load(model, str(path), map_location='cpu')
    else:
        model.load_state_dict(torch.load(path)['state_dict'])
    released = released_state('ViTAdapter', TASK)
    assert torch.equal(model.backbone.vit.model.blocks[2].ls1.gamma, released['blocks.2.gamma1'])
    assert torch.equal(model.backbone.norm4.running_var, released['norm4.running_var'])
    assert torch.equal(model.decode_head.bias, torch.ones(3))
    again = Toy(settings())
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.backbone.up.weight, released['up.weight'])


def test_without_our_hook_half_a_backbone_is_refused(save):
    """mmengine would load what fits and warn."""
    config = settings() | {'cffn_ratio': 0.5}
    with pytest.raises(ValueError, match=r'wrong shape(?s:.*)The file wants model\.backbone='):
        load_checkpoint(Toy(config), str(save()), map_location='cpu')


def test_heads_are_told_from_the_backbone(tmp_path, save):
    with pytest.raises(ValueError, match=r'backbone fits, the heads do not: decode_head\.weight'):
        run(tmp_path, save(), classes=5)
    with pytest.raises(ValueError, match=r'holds the backbone alone: a test needs the whole'):
        run(tmp_path, save(heads=False))


@pytest.mark.parametrize(
    ('content', 'prefix', 'message'),
    [
        (
            {'layer1.0.conv1.weight': torch.ones(4, 4)},
            None,
            r' 0\.0% of the parameters(?s:.*)go into vit\.checkpoint',
        ),
        ('ours', None, r"add prefix='backbone\.'"),
        ('ViT', None, r'go into vit\.checkpoint'),
        ('ours', 'backbone.', None),
        ('released', None, None),
    ],
)
def test_init_cfg_takes_what_fits_or_refuses(tmp_path, content, prefix, message):
    path = tmp_path / 'weights.pth'
    source = Toy(settings())
    torch.nn.init.normal_(source.backbone.up.weight)
    state = released_state('ViTAdapter', TASK)
    if content == 'ours':
        content = source.state_dict()
        wanted = source.backbone.up.weight
    elif content == 'ViT':
        content = source.backbone.vit.model.state_dict()
    elif content == 'released':
        content, wanted = state, state['up.weight']
    torch.save({'state_dict': content}, path)
    init = {'type': 'Pretrained', 'checkpoint': str(path)} | ({'prefix': prefix} if prefix else {})
    model = MODELS.build({**settings(), 'init_cfg': init})
    if message:
        with pytest.raises(ValueError, match=message):
            model.init_weights()
    else:
        model.init_weights()
        assert torch.equal(model.up.weight, wanted)
