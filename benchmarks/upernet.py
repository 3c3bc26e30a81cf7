"""Compare `FastUPerHead` with mmseg's `UPerHead`, same weights, on the same maps.

    python benchmarks/upernet.py --widths 384 768 --channels 512 128 --runs 3

Both heads take random maps of strides 4 to 32 in channels-last memory, as the adapters return them,
or in the usual one. They run in turn in one process; ratios are medians of ratios within a turn,
and times are CPU time. The backward pass includes the gradients of the maps.
"""

from __future__ import annotations

import argparse
import statistics
from itertools import product

import torch
from measuring import forward, forward_backward, multiply_adds, peak_bytes, seconds
from mmseg.registry import MODELS
from tables import header, row
from torch import Tensor, nn
from torch.utils.flop_counter import baddbmm_flop, register_flop_formula

import vit_dense.segmentation  # noqa: F401  registers the head

# torch counts only the product that is not in place
register_flop_formula(torch.ops.aten.baddbmm_, get_raw=True)(baddbmm_flop)

HEADS = ('UPerHead', 'FastUPerHead')


class OnMaps(nn.Module):
    """A head with its maps as parameters, so that a step computes their gradients."""

    def __init__(self, head: nn.Module, maps: list[Tensor]) -> None:
        super().__init__()
        self.head = head
        self.maps = nn.ParameterList(nn.Parameter(x) for x in maps)

    def forward(self, image: Tensor) -> Tensor:
        """Return the scores; the image says only where to run."""
        return self.head(list(self.maps))


def build(width: int, channels: int, size: int, memory_format: torch.memory_format) -> list[OnMaps]:
    """Return both heads with equal weights on equal maps."""
    config = {'in_channels': [width] * 4, 'in_index': [0, 1, 2, 3], 'align_corners': False}
    config |= {'channels': channels, 'num_classes': 150, 'norm_cfg': {'type': 'TolerantBN'}}
    heads = [MODELS.build({'type': name, **config}) for name in HEADS]
    heads[1].load_state_dict(heads[0].state_dict())
    maps = [torch.randn(1, width, -(-size // s), -(-size // s)) for s in (4, 8, 16, 32)]
    return [OnMaps(h, [x.contiguous(memory_format=memory_format) for x in maps]) for h in heads]


def rows(width: int, channels: int, size: int, layout: str, runs: int) -> list[str]:
    """Measure both heads."""
    models = build(width, channels, size, getattr(torch, layout))
    image = torch.zeros(1)
    cells: list[list[object]] = [
        [width, channels, size, layout, head, f'{multiply_adds(model, image) / 1e9:.1f}']
        for head, model in zip(HEADS, models, strict=True)
    ]
    for step in (forward, forward_backward):
        peaks, times = [], [[] for _ in models]
        for model in models:
            model.train(step is forward_backward)
            step(model, image)
            peaks.append(peak_bytes(step, model, image))
        for _ in range(runs):
            for model, of_model in zip(models, times, strict=True):
                of_model.append(seconds(step, model, image, 'cpu'))
        for i, own in enumerate(times):
            ratio = statistics.median(a / b for a, b in zip(own, times[0], strict=True))
            peak = '-' if peaks[i] is None else f'{peaks[i] / 2**20:.0f}'
            cells[i] += [f'{statistics.median(own) * 1000:.0f}', f'{ratio:.2f}', peak]
    return [row(*c) for c in cells]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--widths', type=int, nargs='+', default=[384, 768])
    parser.add_argument('--channels', type=int, nargs='+', default=[512])
    parser.add_argument('--sizes', type=int, nargs='+', default=[512], help='pixels')
    layouts = ('channels_last', 'contiguous_format')
    parser.add_argument('--layouts', nargs='+', choices=layouts, default=layouts[:1])
    parser.add_argument('--runs', type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    times = ('ms', '/ UPerHead', 'peak MiB')
    columns = ('forward ms', *times[1:], 'forward+backward ms', *times[1:])
    print(header('maps', 'channels', 'px', 'memory', 'head', 'G multiply-adds', *columns))
    for case in product(args.widths, args.channels, args.sizes, args.layouts):
        print('\n'.join(rows(*case, args.runs)), flush=True)


if __name__ == '__main__':
    main()
