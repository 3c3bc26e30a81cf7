"""Several tasks on one encoder: values of the single models, one pass, weights of the losses."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS
from multitask_configs import TASKS, build_multitask, build_single, multitask
from torch import Tensor

from vit_dense.detection.random_batch import random_batch as det_batch
from vit_dense.engine import LayerDecayOptimWrapperConstructor
from vit_dense.segmentation.random_batch import random_batch as seg_batch

BATCHES = {'seg': seg_batch, 'det': det_batch}


def own_batch(model: Any, size: tuple[int, int] = (64, 64), det: int = 64) -> dict[str, Any]:
    """A batch of two images for each task, as `MultiTaskDataset` gives it."""
    inputs, samples = [], []
    for name, task in model.tasks.items():
        edges = size if name == 'seg' else (det, det)
        part = BATCHES[name](task, edges, 2)
        for sample in part['data_samples']:
            sample.set_metainfo({'task': name})
        inputs += list(part['inputs'])
        samples += part['data_samples']
    return {'inputs': inputs, 'data_samples': samples}


def joint_batch(model: Any) -> dict[str, Any]:
    """A batch of two images with the labels of all tasks, as `JointDataset` gives it."""
    parts = {name: BATCHES[name](task, (64, 64), 2) for name, task in model.tasks.items()}
    samples = {name: part['data_samples'] for name, part in parts.items()}
    return {'inputs': list(parts['seg']['inputs']), 'data_samples': samples}


def losses_of(model: Any, batch: dict[str, Any]) -> dict[str, Tensor]:
    data = model.data_preprocessor(deepcopy(batch), True)
    found = model(**data, mode='loss')
    return {n: sum(v) if isinstance(v, list) else v for n, v in found.items()}


@pytest.fixture
def passes() -> list[int]:
    return []


def count(model: Any, passes: list[int]) -> None:
    """Notes the batch size of each pass of the backbone."""
    model.backbone.register_forward_hook(lambda _, args, __: passes.append(len(args[0])))


@pytest.mark.parametrize('name', TASKS)
def test_one_task_has_losses_and_predictions_of_the_single_model(name: str) -> None:
    model = build_multitask(name)
    single = build_single(name, model)
    batch = BATCHES[name](single, (64, 64), 2)
    tagged = deepcopy(batch)
    for sample in tagged['data_samples']:
        sample.set_metainfo({'task': name})
    expected, found = losses_of(single, batch), losses_of(model, tagged)
    assert {f'{name}.{key}' for key in expected} == found.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[f'{name}.{key}'], value)
    model.eval(), single.eval()
    for one, other in zip(model.val_step(tagged), single.val_step(batch), strict=True):
        kind = 'pred_sem_seg' if name == 'seg' else 'pred_instances'
        values = {k: v for k, v in getattr(one, kind).items() if isinstance(v, Tensor)}
        assert values
        for key, value in values.items():
            assert torch.equal(value, getattr(other, kind).get(key))


@pytest.mark.parametrize('given', ['joint', pytest.param('own', marks=pytest.mark.slow)])
def test_both_tasks_have_the_losses_of_single_models_in_one_pass(
    given: str, passes: list[int]
) -> None:
    model = build_multitask()
    count(model, passes)
    batch = (joint_batch if given == 'joint' else own_batch)(model)
    found = losses_of(model, batch)
    assert passes == ([2] if given == 'joint' else [2, 2])
    for name in TASKS:
        single = build_single(name, model)
        if given == 'joint':
            part = {'inputs': batch['inputs'], 'data_samples': batch['data_samples'][name]}
        else:
            chosen = [i for i, one in enumerate(batch['data_samples']) if one.task == name]
            part = {key: [batch[key][i] for i in chosen] for key in batch}
        for key, value in losses_of(single, part).items():
            torch.testing.assert_close(found[f'{name}.{key}'], value, rtol=1e-4, atol=1e-5)


def test_images_of_other_sizes_pass_alone_and_predictions_once(passes: list[int]) -> None:
    model = build_multitask()
    count(model, passes)
    losses_of(model, own_batch(model, det=96))
    assert passes == [2, 2]
    passes.clear()
    model.eval()
    images = torch.randn(3, 3, 64, 64)
    metas = det_batch(model.tasks['det'], (64, 64), 3)['data_samples']
    found = model(images, {'det': metas})
    assert passes == [3]
    assert found['seg'].shape[:2] == (3, 3)
    passes.clear()
    model.val_step(seg_batch(model.tasks['seg'], (64, 64), 1) | {'data_samples': tagged_seg(model)})
    assert passes == [1], 'only the task of the batch'


def tagged_seg(model: Any) -> list[Any]:
    samples = seg_batch(model.tasks['seg'], (64, 64), 1)['data_samples']
    samples[0].set_metainfo({'task': 'seg'})
    return samples


def test_sliding_windows_do_not_take_the_maps_of_the_whole_image() -> None:
    slide = {'mode': 'slide', 'crop_size': (64, 64), 'stride': (32, 32)}
    model = build_multitask('seg')
    single = build_single('seg', model)
    for one in (model.tasks['seg'], single):
        one.test_cfg = Config(slide)
        one.eval()
    batch = seg_batch(single, (64, 96), 1)
    tagged = deepcopy(batch)
    tagged['data_samples'][0].set_metainfo({'task': 'seg'})
    (found,), (expected,) = model.val_step(tagged), single.val_step(batch)
    assert torch.equal(found.seg_logits.data, expected.seg_logits.data)


def test_weights_multiply_losses_alone() -> None:
    plain = build_multitask()
    batch = joint_batch(plain)
    before = losses_of(plain, batch)
    after = losses_of(build_multitask(loss_weights={'seg': 3.0}), batch)
    for name, value in before.items():
        factor = 3.0 if name.startswith('seg.') and 'loss' in name else 1.0
        torch.testing.assert_close(after[name], factor * value)


def test_uncertainty_by_hand() -> None:
    """L1 = 2 + 4, L2 = 1; s1 = 0.5, s2 = -1: sum of exp(-s) L + s / 2."""
    model = build_multitask(loss_weights='uncertainty')
    s = model.log_variances
    s['seg'].data.fill_(0.5), s['det'].data.fill_(-1.0)
    found = model.weigh({
        'seg': {'loss_x': torch.tensor(2.0), 'loss_y': [torch.tensor(1.0), torch.tensor(3.0)],
                'acc': torch.tensor(7.0)},
        'det': {'loss': torch.tensor(1.0)},
    })  # fmt: skip
    total, _ = model.parse_losses(found)
    expected = 6 * torch.tensor(-0.5).exp() + 0.25 + torch.tensor(1.0).exp() - 0.5
    torch.testing.assert_close(total, expected)
    assert found['seg.acc'] == 7
    torch.testing.assert_close(found['seg.weight'], torch.tensor(-0.5).exp())
    total.backward()
    torch.testing.assert_close(s['seg'].grad, 0.5 - 6 * torch.tensor(-0.5).exp())


def test_layers_and_heads_have_their_rates_and_variances_no_decay() -> None:
    model = build_multitask(loss_weights='uncertainty')
    optimizer = {'type': 'AdamW', 'lr': 1.0, 'weight_decay': 0.1}
    wrapper = LayerDecayOptimWrapperConstructor(
        {'type': 'OptimWrapper', 'optimizer': optimizer}, {'layer_decay_rate': 0.5}
    )(model)
    groups = {id(p): one for one in wrapper.optimizer.param_groups for p in one['params']}
    names = dict(model.named_parameters())
    assert len(groups) == len(names)
    depth = model.backbone.vit.depth
    for name, parameter in names.items():
        rate = groups[id(parameter)]['lr']
        if '.blocks.0.' in name:
            assert rate == 0.5**depth
        elif not name.startswith('backbone.vit.'):
            assert rate == 1.0
    variance = groups[id(model.log_variances['seg'])]
    assert (variance['lr'], variance['weight_decay']) == (1.0, 0.0)


@pytest.mark.slow
def test_a_copy_uses_its_own_backbone() -> None:
    """As averaged weights do."""
    model = build_multitask('seg').eval()
    copy = deepcopy(model)
    for parameter in copy.backbone.parameters():
        parameter.data.zero_()
    image = torch.randn(1, 3, 64, 64)
    assert not torch.equal(model(image)['seg'], copy(image)['seg'])
    assert not any(name.startswith('tasks.seg.backbone') for name in model.state_dict())


def test_weights_are_initialised_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_multitask()
    calls: list[int] = []
    monkeypatch.setattr(type(model.backbone.vit), 'init_weights', lambda _: calls.append(1))
    model.init_weights()
    assert calls == [1]


@pytest.mark.usefixtures('process_group')
@pytest.mark.parametrize('make', [pytest.param(joint_batch, marks=pytest.mark.slow), own_batch])
def test_ddp_finds_no_unused_parameter(make: Any) -> None:
    model = build_multitask(loss_weights='uncertainty')
    wrapped = MMDistributedDataParallel(model.train())
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-4))
    for _ in range(2):
        assert torch.isfinite(wrapped.train_step(make(model), optimizer)['loss'])


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'loss_weights': {'seg': 0, 'det': 0.0}}, 'not all 0'),
        ({'loss_weights': {'segm': 1.0}}, r"'segm': 1.0.*det, seg"),
        ({'loss_weights': {'seg': -1.0}}, 'at least 0'),
        ({'loss_weights': 'uncertain'}, "give 'uncertainty'"),
        ({'loss_weights': {'seg': float('inf')}}, 'finite numbers'),
        ({'loss_weights': {'seg': float('nan')}}, 'finite numbers'),
        ({'tasks': [TASKS['seg']]}, 'name one task or more'),
        ({'tasks': {'seg': None}}, 'name one task or more'),
        ({'tasks': {'seg': {**TASKS['seg'], 'data_preprocessor': None}}}, 'no data_preprocessor'),
        ({'tasks': {'seg': {**TASKS['seg'], 'type': None}}}, "'mmseg.NAME' or 'mmdet.NAME'"),
        ({'tasks': {}}, 'name one task or more'),
        ({'tasks': {'loss_seg': TASKS['seg']}}, 'without "loss"'),
        ({'tasks': {'seg.a': TASKS['seg']}}, 'like a variable'),
        ({'tasks': {'seg': {**TASKS['seg'], 'type': 'EncoderDecoder'}}},
         "model.tasks.seg.type='EncoderDecoder'.*'mmseg.EncoderDecoder' or 'mmdet.EncoderDecoder'"),
        ({'tasks': {'seg': {**TASKS['seg'], 'backbone': {}}}}, 'tasks.seg.backbone'),
    ],
)  # fmt: skip
def test_mistakes_are_told(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MODELS.build(multitask(**changes))
