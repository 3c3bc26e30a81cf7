"""FastUPerHead against mmseg's UPerHead: the same weights, scores and gradients."""

from typing import Any

import pytest
import torch
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, baddbmm_flop, register_flop_formula

from vit_dense.segmentation import FastUPerHead

# torch counts only the product that is not in place
register_flop_formula(torch.ops.aten.baddbmm_, get_raw=True)(baddbmm_flop)
WIDTHS = [5, 6, 7, 8]
SIZES = {
    'exact multiples': [(16, 24), (8, 12), (4, 6), (2, 3)],
    'rounded up': [(17, 21), (9, 11), (5, 6), (3, 3)],
    'single cells': [(8, 12), (4, 1), (1, 6), (1, 1)],
    'one size': [(12, 10)] * 4,
    'an enlarged first map': [(8, 8), (16, 16), (4, 4), (8, 8)],
}


def pair(**changes: Any) -> tuple[nn.Module, nn.Module]:
    """UPerHead with random values everywhere, and FastUPerHead with its weights."""
    torch.manual_seed(0)
    config: dict[str, Any] = {'in_channels': WIDTHS, 'in_index': [0, 1, 2, 3], 'channels': 32}
    config |= {'num_classes': 3, 'norm_cfg': {'type': 'TolerantBN'}, 'align_corners': False}
    config |= {'dropout_ratio': 0.0, **changes}
    slow, fast = (MODELS.build({'type': t, **config}) for t in ('UPerHead', 'FastUPerHead'))
    for parameter in slow.parameters():
        nn.init.normal_(parameter, std=0.3)
    for name, statistic in slow.named_buffers():
        if name.endswith(('mean', 'var')):
            statistic.uniform_(0.5, 2)
    fast.load_state_dict(slow.state_dict())
    slow.load_state_dict(fast.state_dict())
    return slow, fast


def maps(sizes: list[tuple[int, int]], batch: int = 2, **options: Any) -> list[Tensor]:
    return [torch.randn(batch, c, *s, **options) for c, s in zip(WIDTHS, sizes, strict=True)]


def counted(head: nn.Module, inputs: list[Tensor]) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        head(inputs)
    return counter.get_total_flops() / 2


@pytest.mark.filterwarnings('ignore:When align_corners=True')
@pytest.mark.parametrize('sizes', SIZES.values(), ids=list(SIZES))
@pytest.mark.parametrize(
    'changes',
    [
        {'training': True},
        {},
        {'align_corners': True},
        {'norm_cfg': None},
        {'norm_cfg': {'type': 'GN', 'num_groups': 4}, 'act_cfg': {'type': 'GELU'}},
        {'conv_cfg': {'type': 'Conv2d', 'padding_mode': 'circular'}, 'pool_scales': (1, 3)},
    ],
    ids=['training', 'batch norm', 'align_corners', 'no norm', 'group norm', 'other convolution'],
)
def test_scores_and_all_gradients(changes: dict[str, Any], sizes: list[tuple[int, int]]) -> None:
    options = dict(changes)
    training = options.pop('training', False)
    slow, fast = (head.double().train(training) for head in pair(**options))
    inputs = maps(sizes, dtype=torch.double, requires_grad=True)
    results = []
    for head in (slow, fast):
        scores = head(inputs)
        torch.manual_seed(1)
        scores.backward(torch.randn(scores.shape, dtype=scores.dtype))
        gradients = [p.grad for p in (*inputs, *head.parameters())]
        assert all(g is not None for g in gradients)
        results.append([scores.detach(), *gradients, *head.buffers()])
        for x in inputs:
            x.grad = None
    for found, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_fewer_maps_in_another_order() -> None:
    slow, fast = (h.eval() for h in pair(in_channels=[6, 8], in_index=[1, 3]))
    inputs = maps(SIZES['rounded up'], batch=1)
    with torch.no_grad():
        torch.testing.assert_close(fast(inputs), slow(inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_mixed_precision_rounds_two_more_times(dtype: torch.dtype) -> None:
    slow, fast = (h.eval() for h in pair())
    inputs = [x.contiguous(memory_format=torch.channels_last) for x in maps(SIZES['rounded up'], 1)]
    with torch.no_grad():
        exact = slow(inputs)
        with torch.autocast('cpu', dtype):
            before, found = slow(inputs), fast(inputs)
    assert found.dtype == before.dtype == dtype
    errors = [(x - exact).abs().mean().item() for x in (found, before)]
    assert errors[0] < 1.5 * errors[1]


@pytest.mark.slow
def test_compiled_in_one_graph() -> None:
    _, fast = pair()
    fast.eval()
    inputs = maps(SIZES['rounded up'], batch=1)
    compiled = torch.compile(fast._forward_feature, fullgraph=True, backend='aot_eager')
    with torch.no_grad():
        torch.testing.assert_close(compiled(inputs), fast._forward_feature(inputs))


def test_half_the_multiply_adds() -> None:
    """A quarter of 512 px and 512 channels in all sizes, which keeps the ratio."""
    heads = (head.eval() for head in pair(in_channels=[96] * 4, channels=128))
    inputs = [torch.randn(1, 96, 32 >> i, 32 >> i) for i in range(4)]
    slow, fast = (counted(head, inputs) for head in heads)
    assert fast < 0.54 * slow


def test_never_more_multiply_adds_than_before() -> None:
    for sizes in SIZES.values():
        slow, fast = (counted(head.eval(), maps(sizes)) for head in pair(channels=4))
        assert fast <= slow


def test_wrapped_convolutions_are_called() -> None:
    """As adapters of low rank wrap them: `weight` is then not all that the layer applies."""

    class Twice(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    slow, fast = (h.double().eval() for h in pair(norm_cfg=None))
    for head in (slow, fast):
        head.fpn_bottleneck.conv.__class__ = Twice
    inputs = maps(SIZES['exact multiples'], batch=1, dtype=torch.double)
    with torch.no_grad():
        torch.testing.assert_close(fast(inputs), slow(inputs))


def test_it_is_a_uper_head() -> None:
    assert FastUPerHead.__mro__[1] is MODELS.get('UPerHead')
