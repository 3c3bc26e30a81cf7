"""The comparison of whole released models, as far as it runs without the old libraries."""

import importlib

import pytest
import torch


@pytest.fixture
def bench():
    return importlib.import_module('benchmarks.parity.released_models')


@pytest.fixture
def old_side():
    return importlib.import_module('benchmarks.parity.released_models_old')


def found(**changes):
    things = {
        'labels': torch.tensor([0, 0, 2]),
        'boxes': torch.tensor([[0.0, 0, 9, 9], [20, 20, 40, 40], [0, 0, 9, 9]]),
        'scores': torch.tensor([0.9, 0.8, 0.7]),
        'masks': torch.zeros(3, 10, 10, dtype=torch.bool),
    }
    return things | changes


def test_things_may_change_places_and_nothing_else(bench):
    turned = {name: tensor.flip(0) for name, tensor in found().items()}
    assert bench.compare_found(turned, found()) == (0, 0, 0)
    other = bench.compare_found(found(labels=torch.tensor([0, 1, 2])), found())
    assert other[0] == 2, 'one that only we found, one that only they found'
    moved = found()['boxes'] + torch.tensor([[0.0], [5], [0]])
    assert bench.compare_found(found(boxes=moved), found())[0] == 2
    masks = found()['masks'].clone()
    masks[2, :3] = True
    lost, scores, pixels = bench.compare_found(
        found(masks=masks, scores=torch.tensor([0.9, 0.8, 0.6])), found()
    )
    assert (lost, scores, pixels) == (0, pytest.approx(0.1), pytest.approx(0.1))


def test_another_shape_is_no_small_difference(bench):
    assert bench.largest_difference([torch.ones(2, 1)], [torch.ones(2, 3)]) == float('inf')
    ours, theirs = [torch.ones(2), [torch.zeros(2)]], [torch.ones(2), [torch.ones(2)]]
    assert bench.largest_difference(ours, theirs) == 1


def test_our_side_of_every_model_is_built(bench):
    for case in bench.CASES.values():
        with torch.device('meta'):
            model = bench.build(case)
        assert (case.task == 'detection') == hasattr(model, 'neck'), case.leaf
        assert type(model.backbone.vit).__name__ == (
            'TimmViT' if 'beit' in case.leaf else 'ReleasedTimmViT'
        )


def test_changes_to_the_release_s_config(old_side):
    config = {'head': {'norm_cfg': {'type': 'SyncBN'}, 'stages': [{'type': 'SyncBN'}]}, 'x': 1}
    old_side.merge(config, {'head': {'width': 3}, 'x': 2})
    old_side.replace_sync_bn(config)
    batch_norm = {'type': 'BN'}
    expected = {'norm_cfg': batch_norm, 'stages': [batch_norm], 'width': 3}
    assert config == {'head': expected, 'x': 2}
