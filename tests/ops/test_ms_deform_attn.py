"""Deformable attention against an independent loop, and its ways against each other."""

import importlib
import importlib.machinery
import math
import sys
import types

import pytest
import torch

from vit_dense.ops import MSDeformAttn, SamplingGrid, ms_deform_attn
from vit_dense.ops import ms_deform_attn as package_function
from vit_dense.ops.ms_deform_attn import _by_embedding_bag, _by_grid_sample, _softmax
from vit_dense.ops.native import native_ms_deform_attn
from vit_dense.ops.sampling_grid import LevelSizes
from vit_dense.ops.weighted_gather import weighted_gather

SHAPES = [(5, 7), (3, 4), (2, 1)]


def loop_reference(value, shapes, locations, weights):
    """Equation 3 of the paper, one sample at a time."""
    batch, _, heads, _ = value.shape
    _, queries, _, levels, points, _ = locations.shape
    out = torch.zeros(batch, queries, heads, value.shape[-1], dtype=value.dtype)
    starts = [sum(h * w for h, w in shapes[:i]) for i in range(levels)]
    rows = []
    for b in range(batch):
        for q in range(queries):
            for m in range(heads):
                total = out[b, q, m]
                for level, (h, w) in enumerate(shapes):
                    for p in range(points):
                        x = locations[b, q, m, level, p, 0] * w - 0.5
                        y = locations[b, q, m, level, p, 1] * h - 0.5
                        left, top = math.floor(x.item()), math.floor(y.item())
                        for i in (top, top + 1):
                            for j in (left, left + 1):
                                if 0 <= i < h and 0 <= j < w:
                                    share = (1 - (y - i).abs()) * (1 - (x - j).abs())
                                    token = value[b, starts[level] + i * w + j, m]
                                    total = total + weights[b, q, m, level, p] * share * token
                rows.append(total)
    return torch.stack(rows).view(batch, queries, -1)


def random_inputs(seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    tokens = sum(h * w for h, w in SHAPES)
    value = torch.randn(2, tokens, 3, 4, generator=generator, dtype=dtype)
    # beyond 0..1 on purpose: samples outside a level count as zero
    locations = torch.rand(2, 6, 3, 3, 2, 2, generator=generator, dtype=dtype) * 1.6 - 0.3
    weights = torch.rand(2, 6, 3, 3, 2, generator=generator, dtype=dtype)
    return [x.requires_grad_() for x in (value, locations, weights)]


@pytest.mark.parametrize('way', [_by_embedding_bag, _by_grid_sample])
def test_values_and_gradients_equal_a_loop(way):
    ours, reference = random_inputs(), random_inputs()
    out = way(ours[0], SHAPES, *ours[1:])
    expected = loop_reference(reference[0], SHAPES, *reference[1:])
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-12)
    probe = torch.randn(out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(1))
    (out * probe).sum().backward()
    (expected * probe).sum().backward()
    for mine, theirs in zip(ours, reference, strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-9, atol=1e-11)


def test_locations_far_outside_and_not_finite_do_no_harm():
    value, locations, weights = (x.detach() for x in random_inputs(dtype=torch.float32))
    locations[0] = 1e12
    out = ms_deform_attn(value, SHAPES, locations, weights)
    assert torch.equal(out[0], torch.zeros_like(out[0]))
    assert out[1].isfinite().all()


def test_row_numbers_beyond_32_bits(monkeypatch):
    """The wider integers that large batches need, on a small one: the same values, gradients."""
    results = []
    for largest in (2**31 - 1, 0):
        monkeypatch.setattr(sys.modules['vit_dense.ops.ms_deform_attn'], 'MAX_INT32', largest)
        inputs = random_inputs()
        out = ms_deform_attn(inputs[0], SHAPES, *inputs[1:])
        out.square().sum().backward()
        results.append([out, *(x.grad for x in inputs)])
    for narrow, wide in zip(*results, strict=True):
        assert torch.equal(narrow, wide)


@pytest.mark.parametrize('needed', [[0], [1], [0, 1]])
def test_weighted_gather_has_the_gradients_asked_for(needed):
    """Against indexing; some rows are taken often, some never."""
    rows = torch.randint(0, 4, (5, 6)) * 2
    values = torch.randn(9, 3).double(), torch.randn(5, 6).double()
    for i in needed:
        values[i].requires_grad_()
    table, weights = values
    out = weighted_gather(table, rows.int(), weights)
    expected = (table[rows] * weights[..., None]).sum(1)
    torch.testing.assert_close(out, expected)
    probe = torch.randn_like(out)
    wanted = [values[i] for i in needed]
    mine, theirs = (torch.autograd.grad((x * probe).sum(), wanted) for x in (out, expected))
    torch.testing.assert_close(mine, theirs)


def test_softmax_is_torch_s():
    x = torch.randn(3, 5, 12, dtype=torch.float64) * 50
    x[0, 0] = 1e4
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    out, expected = _softmax(ours), theirs.softmax(-1)
    torch.testing.assert_close(out, expected)
    probe = torch.randn_like(x)
    (out * probe).sum().backward()
    (expected * probe).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_empty_queries():
    value, locations, weights = (x.detach() for x in random_inputs())
    out = ms_deform_attn(value, SHAPES, locations[:, :0], weights[:, :0])
    assert out.shape == (2, 0, 12)


@pytest.mark.parametrize('way', [_by_grid_sample, _by_embedding_bag])
def test_a_layer_takes_an_empty_batch(monkeypatch, way):
    module = sys.modules['vit_dense.ops.ms_deform_attn']
    monkeypatch.setattr(module, '_by_embedding_bag', way)
    layer = MSDeformAttn(12, 3, num_levels=2)
    grid = SamplingGrid.of(torch.rand(4, 2), [(2, 3), (1, 2)], [8, 16])
    feat = torch.randn(0, 8, 12, requires_grad=True)
    out = layer(torch.randn(0, 4, 12), grid, feat)
    assert out.shape == (0, 4, 12)
    out.sum().backward()
    assert feat.grad.shape == feat.shape


def test_wrong_level_sizes_are_refused():
    value, locations, weights = (x.detach() for x in random_inputs())
    with pytest.raises(ValueError, match=r'49 value tokens.*asks for 35'):
        package_function(value, SHAPES[:1], locations, weights)


def test_half_precision_samples_in_float32():
    value, locations, weights = (x.detach().float() for x in random_inputs())
    exact = ms_deform_attn(value.bfloat16().float(), SHAPES, locations, weights)
    half = ms_deform_attn(value.bfloat16(), SHAPES, locations, weights)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half, exact.bfloat16())


def test_layer_samples_in_float32_under_autocast(monkeypatch):
    seen = {}

    def spy(value, shapes, locations, weights, *, grid):
        seen.update(locations=locations.dtype, weights=weights.dtype)
        return ms_deform_attn(value, shapes, locations, weights)

    monkeypatch.setattr(sys.modules['vit_dense.ops.ms_deform_attn'], 'ms_deform_attn', spy)
    layer = MSDeformAttn(12, 3, num_levels=1)
    grid = SamplingGrid.of(torch.rand(4, 2), [(2, 3)], [1])
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = layer(torch.randn(1, 4, 12), grid, torch.randn(1, 6, 12))
    assert seen == {'locations': torch.float32, 'weights': torch.float32}
    assert out.isfinite().all()


BACKENDS = [_by_embedding_bag, _by_grid_sample]


@pytest.mark.parametrize('backend', BACKENDS)
def test_gradients_of_the_layer_in_float64(monkeypatch, backend):
    """Against finite differences, which float32 anywhere in the layer would spoil."""
    for other in BACKENDS:
        monkeypatch.setattr(sys.modules['vit_dense.ops.ms_deform_attn'], other.__name__, backend)
    torch.manual_seed(0)
    layer = MSDeformAttn(6, 2, num_levels=2, num_points=2).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    names = [name for name, _ in layer.named_parameters()]
    shapes, strides = [(3, 4), (2, 2)], [8, 16]
    grid = SamplingGrid.of(torch.rand(3, 2, dtype=torch.float64) * 24, shapes, strides)
    query, feat = torch.randn(2, 3, 6).double(), torch.randn(2, 16, 6).double()

    def run(query, feat, *parameters):
        own = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(layer, own, (query, grid, feat))

    inputs = [query.requires_grad_(), feat.requires_grad_(), *layer.parameters()]
    assert run(*inputs).dtype == torch.float64
    assert torch.autograd.gradcheck(run, inputs)


def test_sizes_are_copied_once_for_all_layers_of_a_grid(monkeypatch):
    module = sys.modules['vit_dense.ops.ms_deform_attn']
    shapes = [(2, 3), (1, 2)]
    seen = []

    def native(value, levels, locations, weights):
        seen.append(levels)
        return _by_embedding_bag(value, shapes, locations, weights)

    monkeypatch.setattr(module, '_native_op', lambda value: native)
    grid = SamplingGrid.of(torch.rand(4, 2) * 8, shapes, [8, 16])
    query, feat = torch.randn(1, 4, 12), torch.randn(1, 8, 12)
    for _ in range(2):
        MSDeformAttn(12, 3, num_levels=2)(query, grid, feat)
    assert seen[0] is seen[1]
    assert (seen[0].sizes.tolist(), seen[0].starts.tolist()) == ([[2, 3], [1, 2]], [0, 6])


def test_layer_starts_with_rays_of_growing_distance():
    layer = MSDeformAttn(16, 4, num_levels=2, num_points=3)
    offsets = layer.sampling_offsets.bias.detach().view(4, 2, 3, 2)
    # heads look right, down, left, up; point k at distance k
    torch.testing.assert_close(offsets[0, 0], torch.tensor([[1.0, 0], [2, 0], [3, 0]]))
    torch.testing.assert_close(
        offsets[2, 1], torch.tensor([[-1.0, 0], [-2, 0], [-3, 0]]), atol=1e-5, rtol=0
    )


def test_layer_moves_one_token_per_unit_of_offset():
    """With an offset of exactly one token, the value read is the neighbour's."""
    layer = MSDeformAttn(4, 1, num_levels=1, num_points=1)
    with torch.no_grad():
        layer.sampling_offsets.bias.copy_(torch.tensor([1.0, 0.0]))
        for projection in (layer.value_proj, layer.output_proj):
            projection.weight.copy_(torch.eye(4))
    feat = torch.randn(1, 6, 4)  # a 2x3 grid
    centre = torch.tensor([[8.0, 8.0]])  # token (0, 0)
    out = layer(torch.randn(1, 1, 4), SamplingGrid.of(centre, [(2, 3)], [16]), feat)
    torch.testing.assert_close(out[0, 0], feat[0, 1])


@pytest.mark.parametrize('way', ['locations', '_locations_by_broadcast', '_locations_by_axis'])
def test_locations_by_hand(way):
    """Pixel (20, 12) in 3x5 cells of 8 px and 2x3 of 16 px; offsets count in cells."""
    grid = SamplingGrid.of(torch.tensor([[20.0, 12.0]]), [(3, 5), (2, 3)], [8, 16])
    offsets = torch.randn(2, 1, 3, 2, 4, 2)
    extents = torch.tensor([[40.0, 24.0], [48.0, 32.0]])[:, None]
    cells = torch.tensor([[8.0, 8.0], [16.0, 16.0]])[:, None]
    expected = (torch.tensor([20.0, 12.0]) + offsets * cells) / extents
    torch.testing.assert_close(getattr(grid, way)(offsets), expected)


def test_heads_must_divide_the_value_width():
    with pytest.raises(ValueError, match='5 heads over a value width of 32'):
        MSDeformAttn(64, 5, num_levels=1, value_ratio=0.5)
    with pytest.raises(ValueError, match='0 points: each must be at least 1'):
        MSDeformAttn(64, 4, num_levels=1, num_points=0)


@pytest.fixture
def _fresh_native():
    native_ms_deform_attn.cache_clear()
    yield
    native_ms_deform_attn.cache_clear()


@pytest.mark.usefixtures('_fresh_native')
def test_python_stand_in_is_not_taken_for_native():
    assert native_ms_deform_attn() is None


def _compiled_extension(cuda):
    """What a compiled `mmcv._ext` shows of itself."""
    extension = types.ModuleType('mmcv._ext')
    extension.__file__ = '/somewhere/mmcv/_ext.cpython-311-x86_64-linux-gnu.so'
    extension.get_compiling_cuda_version = lambda: cuda
    return extension


@pytest.mark.usefixtures('_fresh_native')
def test_native_op_gets_mmcv_arguments(monkeypatch):
    """The marshalling only, through mmcv's own function: the kernel needs a GPU and a compiler."""
    pytest.importorskip('mmcv')
    module = importlib.import_module('mmcv.ops.multi_scale_deform_attn')
    calls = []

    def forward(value, shapes, starts, locations, weights, im2col_step):
        calls.append((shapes.tolist(), starts.tolist(), im2col_step))
        return value.sum()

    kernels = types.SimpleNamespace(ms_deform_attn_forward=forward)
    monkeypatch.setitem(sys.modules, 'mmcv._ext', _compiled_extension(cuda='12.8'))
    monkeypatch.setattr(module, 'ext_module', kernels)
    native = native_ms_deform_attn()
    assert native is not None
    value, locations, weights = (x.detach() for x in random_inputs())
    native(value, LevelSizes.of(SHAPES, value.device), locations, weights)
    assert calls == [([[5, 7], [3, 4], [2, 1]], [0, 35, 47], 2)]


@pytest.mark.usefixtures('_fresh_native')
def test_mmcv_compiled_for_cpus_is_not_taken_for_native(monkeypatch):
    pytest.importorskip('mmcv')
    monkeypatch.setitem(sys.modules, 'mmcv._ext', _compiled_extension(cuda='not available'))
    assert native_ms_deform_attn() is None


@pytest.mark.usefixtures('_fresh_native')
def test_triton_kernel_gets_its_arguments(monkeypatch):
    """The marshalling only: the kernel needs a GPU."""
    calls = []

    def msda(value, sizes, starts, locations, weights, *, method, backend):
        calls.append((sizes.tolist(), starts.tolist(), weights.shape, method, backend))
        return value.sum()

    registry = types.ModuleType('deformops.registry')
    registry.msda = msda
    registry.Backend = types.SimpleNamespace(EAGER='eager', TRITON='triton')
    _install(monkeypatch, registry)
    native = native_ms_deform_attn()
    assert native is not None
    value, locations, weights = (x.detach() for x in random_inputs())
    for one in (value.float(), value.double()):
        native(one, LevelSizes.of(SHAPES, value.device), locations, weights)
    sizes, starts = [[5, 7], [3, 4], [2, 1]], [0, 35, 47]
    assert calls == [(sizes, starts, weights.shape, 'linear', kind) for kind in ('triton', 'eager')]


@pytest.mark.usefixtures('_fresh_native')
def test_a_triton_kernel_that_fails_is_not_used(monkeypatch):
    seen = []
    monkeypatch.setattr('vit_dense.ops.native.print_log', lambda text, **_: seen.append(text))
    _install(monkeypatch, types.ModuleType('deformops.registry'))  # of another version
    assert native_ms_deform_attn() is None
    assert 'deformops cannot be used (ImportError' in seen[0]


def _install(monkeypatch, registry):
    package = types.ModuleType('deformops')
    package.__spec__ = importlib.machinery.ModuleSpec('deformops', None)
    monkeypatch.setitem(sys.modules, 'deformops', package)
    monkeypatch.setitem(sys.modules, 'deformops.registry', registry)


def test_deterministic_algorithms_exclude_kernels_with_atomics(monkeypatch):
    module = sys.modules['vit_dense.ops.ms_deform_attn']
    monkeypatch.setattr(module, 'native_ms_deform_attn', lambda: 'kernel')
    on_gpu = types.SimpleNamespace(is_cuda=True)
    assert module._native_op(on_gpu) == 'kernel'
    monkeypatch.setattr(torch, 'are_deterministic_algorithms_enabled', lambda: True)
    assert module._native_op(on_gpu) is None
