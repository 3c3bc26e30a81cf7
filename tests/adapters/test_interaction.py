"""What ViTAdapter and ViTCoMer promise alike: the ViT's start, recomputing, precision, graphs."""

import sys

import pytest
import torch
import torch._dynamo.testing
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from vit_dense.adapters import ViTAdapter, ViTCoMer

ADAPTERS = {'ViTAdapter': ViTAdapter, 'ViTCoMer': ViTCoMer}
every_adapter = pytest.mark.parametrize('adapter', ADAPTERS)


def build(adapter, **kwargs):
    vit = {'type': 'TimmViT', 'model_name': 'test_vit', **kwargs.pop('vit', {})}
    return ADAPTERS[adapter](vit, **{'deform_num_heads': 4, 'conv_inplane': 8, **kwargs})


def with_all_parts_at_work(model):
    """No parameter left at zero."""
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return model


def to_vit(model):
    """What hands to the ViT before the first stage, times a factor `gamma`."""
    interaction = model.interactions[0]
    return interaction.injector if isinstance(model, ViTAdapter) else interaction.cti_tov


@every_adapter
@pytest.mark.parametrize('name', ['test_vit', 'vit_small_patch14_reg4_dinov2'])
def test_untrained_interactions_leave_the_vit_alone(adapter, name, monkeypatch):
    """At gamma 0 the ViT branch is timm's forward, bit for bit."""
    vit = {'model_name': name}
    if name != 'test_vit':
        vit['model_kwargs'] = {'depth': 4, 'embed_dim': 48, 'num_heads': 3, 'img_size': 224}
    model = build(adapter, vit=vit).eval()
    seen = []
    to_map = model.vit.to_map

    def record(*args, **kwargs):
        seen.append(to_map(*args, **kwargs))
        return seen[-1]

    monkeypatch.setattr(model.vit, 'to_map', record)
    image = torch.randn(1, 3, 75, 98)
    with torch.no_grad():
        model(image)
        expected = model.vit.model.forward_intermediates(image, intermediates_only=True)
    for stage_map, (_, stop) in zip(seen, model.stages, strict=True):
        assert torch.equal(stage_map, expected[stop - 1])


@every_adapter
def test_interaction_reaches_the_vit(adapter):
    model = build(adapter).eval()
    nn.init.constant_(to_vit(model).gamma, 0.1)
    tokens, context = model.vit.embed(torch.randn(1, 3, 64, 64))
    geometry = model._geometry(context.grid, [(8, 8), (4, 4), (2, 2)], tokens.device)
    pyramid = torch.randn(1, 84, 64)
    with torch.no_grad():
        out, _ = model._before_blocks(model.interactions[0], tokens, pyramid, geometry)
    assert torch.equal(out[:, :1], tokens[:, :1])  # the cls token passes by
    assert not torch.allclose(out[:, 1:], tokens[:, 1:])


@every_adapter
def test_feature_source_adds_the_maps_it_names(adapter):
    """Zero everything but the sum of ViT maps: what is left is what the release adds."""
    outs = {}
    for source in ('stages', 'last'):
        torch.manual_seed(0)
        model = build(adapter, vit_feature_source=source).eval()
        for part in (model.spm, model.up, model.interactions):
            for parameter in part.parameters():
                nn.init.zeros_(parameter)
        nn.init.zeros_(model.level_embed)
        image = torch.randn(1, 3, 64, 64)
        with torch.no_grad():
            outs[source] = model(image)
            maps = model.vit.model.forward_intermediates(image, intermediates_only=True)
    scale = (1 + 1e-5) ** -0.5  # fresh batch norms
    ends = [stop - 1 for _, stop in model.stages]
    torch.testing.assert_close(outs['stages'][2], maps[ends[2]] * scale)
    torch.testing.assert_close(outs['last'][2], maps[-1] * scale)
    torch.testing.assert_close(outs['last'][3], outs['stages'][3])
    assert not torch.allclose(outs['last'][0], outs['stages'][0])


@every_adapter
def test_recomputing_counts_each_batch_once(adapter):
    """Batch statistics are the same whether activations are kept or recomputed; gradients too."""
    plain = with_all_parts_at_work(build(adapter)).train()
    saving = build(adapter, vit={'grad_checkpointing': True}).train()
    saving.load_state_dict(plain.state_dict())
    image = torch.randn(2, 3, 64, 64)
    for model in (plain, saving):
        sum(x.square().mean() for x in model(image)).backward()
    for (name, x), y in zip(plain.named_buffers(), saving.buffers(), strict=True):
        torch.testing.assert_close(x, y, msg=name)
    for (name, x), y in zip(plain.named_parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(x.grad, y.grad, rtol=1e-3, atol=1e-5, msg=name)


@every_adapter
def test_layer_norm_leaves_images_of_a_batch_alone(adapter):
    """With norm='LN' no statistics are shared, in the MRFP neither."""
    model = with_all_parts_at_work(build(adapter, norm='LN')).train()
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        together, alone = model(images), model(images[:1])
    for x, y in zip(together, alone, strict=True):
        torch.testing.assert_close(x[:1], y, rtol=1e-4, atol=1e-4)


@every_adapter
def test_samples_in_float32_under_autocast(adapter, monkeypatch):
    """Every deformable attention does, and the maps stay finite, gradients too."""
    module = sys.modules['vit_dense.ops.ms_deform_attn']
    op, seen = module.ms_deform_attn, []

    def spy(value, shapes, locations, weights, **kwargs):
        seen.append((locations.dtype, weights.dtype))
        return op(value, shapes, locations, weights, **kwargs)

    monkeypatch.setattr(module, 'ms_deform_attn', spy)
    model = with_all_parts_at_work(build(adapter)).train()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = model(torch.randn(2, 3, 64, 96))
    sum(x.float().square().mean() for x in out).backward()
    assert seen == [(torch.float32, torch.float32)] * len(seen)
    assert len(seen) == sum(isinstance(m, module.MSDeformAttn) for m in model.modules())
    assert all(x.isfinite().all() for x in out)
    assert all(p.grad.isfinite().all() for p in model.parameters())


@every_adapter
@pytest.mark.parametrize('patch', [8, 14, 16])
def test_accelerators_compute_what_cpus_do(adapter, patch, monkeypatch):
    """The code of accelerators for deformable attention, with its gradients, in whole adapters."""
    vit = {'model_kwargs': {'patch_size': patch}, 'window_size': 3}
    model = with_all_parts_at_work(build(adapter, vit=vit)).double().train()
    image = torch.randn(2, 3, 70, 101, dtype=torch.float64)
    probes = None
    results = []
    for on_cpu in (True, False):
        if not on_cpu:
            module = sys.modules['vit_dense.ops.ms_deform_attn']
            broadcast = module.SamplingGrid._locations_by_broadcast
            monkeypatch.setattr(module.SamplingGrid, 'locations', broadcast)
            monkeypatch.setattr(module, '_by_embedding_bag', module._by_grid_sample)
            monkeypatch.setattr(module, '_softmax', lambda x: x.softmax(-1))
        maps = model(image)
        probes = probes or [torch.randn_like(x) for x in maps]
        loss = sum((x * probe).sum() for x, probe in zip(maps, probes, strict=True))
        results.append((maps, torch.autograd.grad(loss, list(model.parameters()))))
    (maps, gradients), (other_maps, other_gradients) = results
    torch.testing.assert_close(other_maps, maps, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(other_gradients, gradients, rtol=1e-7, atol=1e-7)
    assert all(x.any() for x in gradients)


@every_adapter
def test_channels_last_changes_nothing(adapter):
    """Weights and image in that layout, as GPUs like it."""
    model = with_all_parts_at_work(build(adapter, vit={'window_size': 3})).eval()
    image = torch.randn(2, 3, 70, 96)
    with torch.no_grad():
        expected = model(image)
        out = model.to(memory_format=torch.channels_last)(
            image.contiguous(memory_format=torch.channels_last)
        )
    for x, y in zip(out, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    'adapter', ['ViTAdapter', pytest.param('ViTCoMer', marks=pytest.mark.slow)]
)
def test_exports(adapter):
    model = with_all_parts_at_work(build(adapter)).eval()
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = model(image)
        program = torch.export.export(model, (image,))
        for x, y in zip(program.module()(image), expected, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('adapter', ['ViTAdapter', 'ViTCoMer'])
def test_compiles_as_one_graph(adapter):
    """No graph break in forward or backward; without inductor, which would need a compiler."""
    model = build(adapter, vit={'window_size': 3}).train()
    image = torch.randn(2, 3, 64, 96)
    compiled = torch.compile(model, backend='aot_eager', fullgraph=True)
    expected, out = model(image), compiled(image)
    for x, y in zip(out, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)
    sum(x.square().mean() for x in out).backward()
    assert to_vit(model).gamma.grad.any()


@pytest.mark.slow
@every_adapter
def test_one_graph_takes_other_sizes(adapter):
    """A second image size makes one graph for all sizes that the pyramid divides; with windows.

    Without gradients: torch 2.11 fails where the backward pass of timm's position resizing (bicubic
    with antialias) gets symbolic sizes. Training compiles with `dynamic=False`, once per size.
    """
    vit = {'window_size': 3, 'model_kwargs': {'depth': 4}}
    model = with_all_parts_at_work(build(adapter, vit=vit)).eval()
    graphs = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(model, backend=graphs, fullgraph=True)
    for size, count in (((64, 96), 1), ((96, 128), 2), ((128, 96), 2)):
        image = torch.randn(1, 3, *size)
        with torch.no_grad():
            for x, y in zip(compiled(image), model(image), strict=True):
                torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)
        assert graphs.frame_count == count, size


@pytest.fixture
def _process_group(tmp_path):
    """One gloo process."""
    store = torch.distributed.FileStore(str(tmp_path / 'store'), 1)
    torch.distributed.init_process_group('gloo', store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@every_adapter
@pytest.mark.usefixtures('_process_group')
@pytest.mark.parametrize('vit', [{}, {'grad_checkpointing': True}, {'frozen_stages': 2},
                                 {'window_size': 3, 'drop_path_rate': 0.2}])  # fmt: skip
def test_trains_under_ddp(adapter, vit):
    """Two steps: the second fails where a parameter went unused."""
    model = nn.parallel.DistributedDataParallel(build(adapter, vit=vit).train())
    for _ in range(2):
        sum(x.sum() for x in model(torch.randn(2, 3, 64, 64))).backward()


@every_adapter
@pytest.mark.usefixtures('_process_group')
@pytest.mark.skipif(
    torch.__version__ < (2, 7), reason='fully_shard of torch 2.6 does not run on CPUs'
)
def test_trains_under_fsdp(adapter):
    """The blocks and the root wrapped, as ARCHITECTURE.md says: outputs and gradients stay."""
    model = with_all_parts_at_work(build(adapter)).train()
    image = torch.randn(2, 3, 64, 64)
    expected = model(image)
    sum(x.square().mean() for x in expected).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    mesh = init_device_mesh('cpu', (1,))
    for block in model.vit.model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    out = model(image)
    sum(x.square().mean() for x in out).backward()
    torch.testing.assert_close(out, expected)
    for name, parameter in model.named_parameters():
        whole = parameter.grad.full_tensor()
        torch.testing.assert_close(whole, gradients[name], rtol=1e-4, atol=1e-6, msg=name)


@every_adapter
@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'interaction_indexes': [(0, 1), (2, 3), (4, 5), (6, 6)]}, r'run through all of 0\.\.5'),
        ({'interaction_indexes': [(0, 1), (3, 3), (4, 4), (5, 5)]}, r'such as \[\(0, 0\), '),
        ({'interaction_indexes': [(0, 1), (2, 5)]}, r"2 stages: give 4, or.*'last'"),
        ({'interaction_indexes': [1, 2, 3, 5]}, r'\[1, 2, 3, 5\] must name the first and last'),
        ({'conv_inplane': 0}, 'conv_inplane=0.*at least one channel'),
        ({'cffn_ratio': 1e-4}, r'cffn_ratio=0\.0001.*at least one channel'),
        ({'vit': {'final_norm': True}}, r'final_norm=True: ViT\w+ has norms of its own'),
        ({'vit_feature_source': 'all'}, r"not one of 'stages'.*'last'"),
        ({'norm': 'SyncBN'}, r"norm='SyncBN' is not one of \['BN', 'LN'\]"),
        ({'deform_ratio': float('inf')}, 'deform_ratio=inf: give a positive number'),
        ({'deform_num_heads': 5}, 'deform_num_heads and deform_ratio'),
        ({'vit': {'model_kwargs': {'depth': 3}}}, '3 blocks cannot be cut into 4 stages'),
    ],
)
def test_mistakes_end_in_one_clear_error(adapter, kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(adapter, **kwargs)
