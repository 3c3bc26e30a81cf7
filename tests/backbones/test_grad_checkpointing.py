"""Gradient checkpointing keeps a block's tokens and nothing else that the block alone uses."""

import gc

import pytest
import torch
from families import small_kwargs
from torch.autograd.graph import saved_tensors_hooks

from vit_dense.backbones import TimmViT

# Biases of tables and of MLPs by block, rotations by block.
BY_BLOCK = [
    ('beit_base_patch16_224', {}),
    ('beit_base_patch16_224', {'use_shared_rel_pos_bias': True}),
    ('vit_relpos_small_patch16_224', {}),
    ('vit_relpos_base_patch16_clsgap_224', {'rel_pos_type': 'mlp'}),
    ('vit_small_patch16_rope_mixed_224', {}),
]
BATCH, EDGE = 1, 12  # images and tokens along each side


def build(name: str, kwargs: dict, **options) -> TimmViT:
    torch.manual_seed(0)
    vit = TimmViT(name, model_kwargs={**small_kwargs(name), **kwargs}, **options).train()
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return vit


def live_bytes() -> int:
    """Bytes of all tensors that Python knows, each storage once."""
    gc.collect()
    storages = {}
    for item in gc.get_objects():
        if type(item) in (torch.Tensor, torch.nn.Parameter):
            storage = item.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def bytes_per_block(vit: TimmViT) -> float:
    """Memory that each block after the first keeps until the backward pass."""
    image = torch.randn(BATCH, 3, 16 * EDGE, 16 * EDGE)
    kept = []
    gc.freeze()  # `live_bytes` then sees new objects alone, which is faster
    # Saved tensors live in C++: packed as they are, they are Python's, as the arguments of
    # recomputed functions are anyway.
    with saved_tensors_hooks(lambda x: x, lambda x: x):
        tokens, context = vit.embed(image)
        for index in range(vit.depth):
            tokens = vit.run_blocks(tokens, context, index, index + 1)
            kept.append(live_bytes())
    gc.unfreeze()
    return (kept[-1] - kept[0]) / (vit.depth - 1)


@pytest.mark.parametrize('windows', [{}, {'window_size': 8, 'global_blocks': ()}])
@pytest.mark.parametrize(('name', 'kwargs'), BY_BLOCK)
def test_blocks_keep_their_tokens_only(name, kwargs, windows):
    heads, width = 3, 48
    vit = build(name, kwargs, grad_checkpointing=True, **windows)
    tokens = BATCH * (vit.num_prefix_tokens + EDGE**2) * width * 4
    # Windows of 8 split the 12x12 tokens into four tiles and merge them again.
    tiles, copies = (4, 3) if windows else (1, 1)
    allowed = copies * tokens + tiles * torch.get_rng_state().nbytes
    assert bytes_per_block(vit) <= allowed
    bias = heads * EDGE**4 * 4
    assert bias > 5 * tokens, 'a bias kept by mistake would be seen'


@pytest.mark.parametrize('windows', [{}, {'window_size': 3, 'drop_path_rate': 0.5}])
@pytest.mark.parametrize(('name', 'kwargs'), BY_BLOCK)
def test_values_and_gradients_stay_the_same(name, kwargs, windows):
    results = []
    for checkpointing in (False, True):
        vit = build(name, kwargs, grad_checkpointing=checkpointing, **windows)
        tokens, context = vit.embed(torch.randn(2, 3, 64, 96))
        tokens = vit.run_blocks(tokens, context, 0, vit.depth)
        (tokens * torch.randn(tokens.shape)).sum().backward()
        results.append((tokens, {n: p.grad for n, p in vit.named_parameters()}))
    (values, gradients), (recomputed, regradients) = results
    assert torch.equal(values, recomputed)
    assert all(x is not None for x in regradients.values())
    if not windows:  # where stochastic depth may skip a block for all images
        assert all(x.any() for x in regradients.values()), 'tables included'
    torch.testing.assert_close(regradients, gradients)
