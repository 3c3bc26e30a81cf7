"""A checkpoint that is not the model's is refused, before anything is copied."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from vit_dense.engine import CheckpointCheckHook


class Toy(BaseModel):
    """A backbone and a head."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8))
        self.head = nn.Conv2d(8, classes, 1)

    def forward(self, inputs, mode='loss'):
        x = self.head(self.backbone(torch.stack(inputs)))
        return {'loss': x.mean()} if mode == 'loss' else list(x)


class Count:
    """A metric that says how many samples it saw."""

    dataset_meta = None

    def process(self, *, data_samples, **_):
        pass

    def evaluate(self, size):
        return {'seen': size}


def run(tmp_path, job, *, classes=3, resume=False, checkpoint=None, **hook):
    data = DataLoader([torch.zeros(3, 4, 4)] * 2, batch_size=2,
                      collate_fn=lambda batch: {'inputs': list(batch)})  # fmt: skip
    model = Toy(classes)
    if job == 'train':
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        options = {'train_dataloader': data, 'optim_wrapper': OptimWrapper(optimizer),
                   'train_cfg': {'by_epoch': False, 'max_iters': 1}}  # fmt: skip
    else:
        options = {'test_dataloader': data, 'test_evaluator': Count(), 'test_cfg': {}}
    runner = Runner(
        model,
        str(tmp_path),
        default_hooks={'logger': None, 'checkpoint': None},
        custom_hooks=[CheckpointCheckHook(**hook)],
        load_from=str(checkpoint),
        resume=resume,
        experiment_name=f'{tmp_path.name}_{job}',
        **options,
    )
    getattr(runner, job)()
    return model


@pytest.fixture
def save(tmp_path):
    def write(**changes):
        path = tmp_path / 'weights.pth'
        state = {**Toy().state_dict(), **changes}
        torch.save({'state_dict': {k: v for k, v in state.items() if v is not None}}, path)
        return path

    return write


def test_the_model_s_own_checkpoint_is_tested(tmp_path, save):
    counter = 'backbone.1.num_batches_tracked'  # old checkpoints lack it
    path = save(**{counter: None})
    model = run(tmp_path, 'test', checkpoint=path)
    state = torch.load(path)['state_dict']
    assert torch.equal(model.head.weight, state['head.weight'])


@pytest.mark.parametrize('prefix', ['module.', '_orig_mod.', 'module._orig_mod.'])
def test_prefixes_of_wrappers_are_cut_off(tmp_path, prefix):
    state = Toy().state_dict()
    torch.save({f'{prefix}{name}': t for name, t in state.items()}, tmp_path / 'weights.pth')
    model = run(tmp_path, 'test', checkpoint=tmp_path / 'weights.pth')
    assert torch.equal(model.head.weight, state['head.weight'])


@pytest.mark.parametrize('change', [None, torch.zeros(2)])
def test_missing_and_misshapen_tensors_are_refused(tmp_path, save, change):
    path = save(**{'head.bias': change, 'neck.bias': torch.zeros(1)})
    with pytest.raises(ValueError, match=r'1 of 9 tensors(?s:.*)head\.bias(?s:.*)neck\.bias'):
        run(tmp_path, 'test', checkpoint=path)
    run(tmp_path, 'test', checkpoint=save(**{'head.bias': None}), strict=False)


def test_resuming_another_model_is_refused(tmp_path, save):
    with pytest.raises(ValueError, match='does not fit this model'):
        run(tmp_path, 'train', checkpoint=save(), classes=4, resume=True)


def test_load_from_may_bring_another_head(tmp_path, save):
    run(tmp_path, 'train', checkpoint=save(), classes=4)


def test_load_from_must_bring_the_backbone(tmp_path, save):
    path = save(**{'backbone.0.weight': None})
    with pytest.raises(
        ValueError, match=r'the backbone: .* 50\.0% of the parameters(?s:.*)vit\.checkpoint'
    ):
        run(tmp_path, 'train', checkpoint=path)
    run(tmp_path, 'train', checkpoint=path, min_backbone=0.5)


def test_tta_wrappers_are_looked_through():
    model = Toy()
    runner = SimpleNamespace(model=nn.Module(), _train_loop=None, _resume=False)
    runner.model.module = model
    CheckpointCheckHook().after_load_checkpoint(runner, {'state_dict': model.state_dict()})
    with pytest.raises(ValueError, match='8 of 9'):
        CheckpointCheckHook().after_load_checkpoint(runner, {'state_dict': {}})


def test_share_outside_its_range():
    with pytest.raises(ValueError, match=r'min_backbone=2 is not a share'):
        CheckpointCheckHook(min_backbone=2)
