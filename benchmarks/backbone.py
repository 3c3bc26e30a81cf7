"""Measure speed and memory of the adapters, compared with the plain timm ViT.

    python benchmarks/backbone.py --models vit_tiny_patch16_224 vit_base_patch16_224 --sizes 512
    python benchmarks/backbone.py --device cuda --dtype bfloat16 --compile
    python benchmarks/backbone.py --table training
    python benchmarks/backbone.py --table pixels
    python benchmarks/backbone.py --table frozen

There are four tables. `plain` compares the adapters with the plain ViT's own forward (up to its
last block, no classifier), and gives the ratio of multiply-adds and the ratio of times divided by
it. `training` shows the effect of attention windows and gradient checkpointing on memory and time
of a training step. `pixels` shows how the cost of a forward grows with the image. `frozen` compares
training on a frozen ViT with the injectors of ViTAdapter and without.

Variants run in turn, so that a change of the machine's speed affects all of them. Each figure is a
median; ratios are medians of ratios within a turn. `measuring.py` defines peak memory.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Sequence
from itertools import product

import torch
from measuring import (
    CLOCKS,
    forward,
    forward_backward,
    in_fresh_process,
    multiply_adds,
    peak_bytes,
    saved_bytes,
    seconds,
)
from tables import header, row
from torch import Tensor, nn
from variants import Variant, add_options, variants

# of a parameter in float32: weight, gradient and AdamW's two moments
TRAINING_BYTES = 4 * 4

# defaults by table
MODELS = {
    'plain': ['vit_tiny_patch16_224', 'vit_small_patch16_224', 'vit_base_patch16_224'],
    'training': ['vit_base_patch16_224'],
    'pixels': ['vit_tiny_patch16_224', 'vit_base_patch16_224'],
    'frozen': ['vit_small_patch16_224', 'vit_base_patch16_224'],
}
SIZES = {'plain': [512], 'training': [1024], 'pixels': [512, 768, 1024, 1536], 'frozen': [512]}
WINDOWS = {'plain': [None], 'training': [None, 14], 'pixels': [None, 14], 'frozen': [None]}
CHECKPOINTING = {'plain': ['off'], 'training': ['off', 'on'], 'pixels': ['off'], 'frozen': ['off']}


def make_image(size: int, args: argparse.Namespace) -> Tensor:
    """Return a batch of noise."""
    image = torch.randn(args.batch, 3, size, size, device=args.device)
    return image.contiguous(memory_format=torch.channels_last) if args.channels_last else image


def prepare(model: nn.Module, args: argparse.Namespace) -> Callable:
    """Compile the module if the options say so."""
    return torch.compile(model) if args.compile else model


def autocast(args: argparse.Namespace) -> torch.autocast:
    """Return the context of mixed precision, enabled unless the dtype is float32."""
    dtype = getattr(torch, args.dtype)
    device = torch.device(args.device).type
    return torch.autocast(device, dtype, enabled=dtype != torch.float32)


def mebibytes(count: float | None) -> str:
    """Format bytes as MiB."""
    return '-' if count is None else f'{count / 2**20:.0f}'


def paired(mine: Sequence[float], others: Sequence[float]) -> float:
    """Return the median of the ratios within each turn, so that a slow moment affects both."""
    return statistics.median(a / b for a, b in zip(mine, others, strict=True))


def plain_table(args: argparse.Namespace) -> None:
    """Print the adapters compared with the plain ViT."""
    ratios = ('/ plain', 'time / multiply-adds', 'peak MiB')
    columns = ('forward ms', *ratios, 'forward+backward ms', *ratios)
    print(header('model', 'px', 'variant', 'multiply-adds / plain', *columns))
    for name, size in product(args.models, args.sizes):
        print('\n'.join(_plain_rows(name, size, args)), flush=True)


def _plain_rows(name: str, size: int, args: argparse.Namespace) -> list[str]:
    asked = variants(name, args)
    image = make_image(size, args)
    models = {v: v.build().to(args.device) for v in (Variant(name, 'plain'), *asked)}
    adds = [multiply_adds(m, image) for m in models.values()]
    shares = [count / adds[0] for count in adds]
    runs = [prepare(m, args) for m in models.values()]
    columns: list[list[str]] = []
    for step in (forward, forward_backward):
        peaks, times = [], [[] for _ in runs]
        with autocast(args):
            for model, run in zip(models.values(), runs, strict=True):
                model.train(step is forward_backward)
                for _ in range(args.warmup):
                    step(run, image)
                peaks.append(peak_bytes(step, run, image))
            for _ in range(args.runs):
                for i, run in enumerate(runs):
                    times[i].append(seconds(step, run, image, args.clock))
        columns.append([f'{statistics.median(t) * 1000:.1f}' for t in times])
        ratios = [paired(t, times[0]) for t in times]
        columns.append([f'{ratio:.2f}' for ratio in ratios])
        columns.append([f'{ratio / s:.2f}' for ratio, s in zip(ratios, shares, strict=True)])
        columns.append([mebibytes(peak) for peak in peaks])
    names = ['plain', *(_label(v, asked) for v in asked)]
    columns.insert(0, [f'{share:.2f}' for share in shares])
    return [row(name, size, *cells) for cells in zip(names, *columns, strict=True)]


def _label(variant: Variant, among: Sequence[Variant]) -> str:
    """Name the adapter, and what distinguishes it from the other variants."""
    text = variant.adapter
    if any(v.attention != 'global' for v in among):
        text += f', {variant.attention}'
    return text + (', checkpointing' if variant.checkpointing else '')


def training_table(args: argparse.Namespace) -> None:
    """Print memory and time of a training step, by windows and gradient checkpointing."""
    print(
        header(
            *('model', 'px', 'adapter', 'attention', 'checkpointing', 'peak MiB', '/ first'),
            *('with weights, gradients, AdamW MiB', 'forward+backward s', '/ first'),
        )
    )
    for name, size, adapter in product(args.models, args.sizes, args.adapters):
        asked = [v for v in variants(name, args) if v.adapter == adapter]
        turns = [
            [in_fresh_process(training_step, v, size, args) for v in asked]
            for _ in range(args.runs)
        ]
        figures = [list(zip(*of_one, strict=True)) for of_one in zip(*turns, strict=True)]
        for variant, (peaks, states, times) in zip(asked, figures, strict=True):
            first_peaks, _, first_times = figures[0]
            cells = ['-', '-', '-']
            if None not in peaks:
                peak = statistics.median(peaks)
                share = f'{paired(peaks, first_peaks):.2f}'
                cells = [mebibytes(peak), share, mebibytes(peak + states[0])]
            cells += [f'{statistics.median(times):.2f}', f'{paired(times, first_times):.2f}']
            on = 'on' if variant.checkpointing else 'off'
            print(row(name, size, adapter, variant.attention, on, *cells), flush=True)


def training_step(
    variant: Variant, size: int, args: argparse.Namespace
) -> tuple[int | None, int, float]:
    """Return peak bytes, bytes of weights and optimizer state, and seconds of one step."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = variant.build().to(args.device).train()
    run = prepare(model, args)
    small, image = make_image(min(size, 224), args), make_image(size, args)
    state = sum(p.numel() for p in model.parameters()) * TRAINING_BYTES
    with autocast(args):
        for _ in range(args.warmup):  # a small image allocates gradients and other one-time state
            forward_backward(run, small)
        times: list[float] = []

        def step(model: Callable, image: Tensor) -> None:
            times.append(seconds(forward_backward, model, image, args.clock))

        peak = peak_bytes(step, run, image)
    return peak, state, times[0]


def frozen_table(args: argparse.Namespace) -> None:
    """Print time and saved activations of a training step on a frozen ViT, without and with."""
    columns = ('saved activations MiB', '/ first', 'forward+backward ms', '/ first')
    print(header('model', 'px', 'adapter', *columns))
    rows = {
        'ViTAdapter': ('ViTAdapter', True),
        'ViTAdapter, inject=False': ('ViTAdapter', False),
        'SimpleFeaturePyramid': ('SimpleFeaturePyramid', True),
    }
    for name, size in product(args.models, args.sizes):
        asked = [Variant(name, kind, frozen=True, inject=on) for kind, on in rows.values()]
        models = [variant.build().to(args.device).train() for variant in asked]
        image, runs = make_image(size, args), [prepare(model, args) for model in models]
        times: list[list[float]] = [[] for _ in runs]
        with autocast(args):
            saved = [saved_bytes(model, image) for model in models]
            for run, _ in product(runs, range(args.warmup)):
                forward_backward(run, image)
            for _, (i, run) in product(range(args.runs), enumerate(runs)):
                times[i].append(seconds(forward_backward, run, image, args.clock))
        for text, kept, timed in zip(rows, saved, times, strict=True):
            cells = [mebibytes(kept), f'{kept / saved[0]:.2f}']
            cells += [f'{statistics.median(timed) * 1000:.1f}', f'{paired(timed, times[0]):.2f}']
            print(row(name, size, text, *cells), flush=True)


def pixels_table(args: argparse.Namespace) -> None:
    """Print multiply-adds and time of a forward per megapixel, and the exponent of growth."""
    print(header('model', 'adapter', 'attention', 'per megapixel', *map(str, args.sizes), 'growth'))
    for name, adapter in product(args.models, args.adapters):
        asked = [v for v in variants(name, args) if v.adapter == adapter]
        print('\n'.join(_pixel_rows(asked, args)), flush=True)


def _pixel_rows(asked: Sequence[Variant], args: argparse.Namespace) -> list[str]:
    models = [v.build().to(args.device).eval() for v in asked]
    images = [make_image(size, args) for size in args.sizes]
    runs = [prepare(m, args) for m in models]
    times = [[[] for _ in images] for _ in models]
    with autocast(args):
        for run, _ in product(runs, range(args.warmup if args.runs else 0)):
            forward(run, images[0])
        for _ in range(args.runs):
            for (k, image), (i, run) in product(enumerate(images), enumerate(runs)):
                times[i][k].append(seconds(forward, run, image, args.clock))
    rows = []
    for variant, model, by_size in zip(asked, models, times, strict=True):
        adds = [multiply_adds(model, image) / 1e9 for image in images]
        start = (variant.model, variant.adapter, variant.attention)
        cells = [*per_megapixel(adds, args), f'{exponent(adds, args.sizes):.2f}']
        rows.append(row(*start, 'G multiply-adds', *cells))
        if args.runs:
            turns = zip(*by_size, strict=True)
            growth = statistics.median(exponent(turn, args.sizes) for turn in turns)
            cells = [*per_megapixel([statistics.median(t) for t in by_size], args), f'{growth:.2f}']
            rows.append(row(*start, 'seconds', *cells))
    return rows


def per_megapixel(values: Sequence[float], args: argparse.Namespace) -> list[str]:
    """Format values divided by megapixels, size by size."""
    megapixels = [args.batch * size**2 / 1e6 for size in args.sizes]
    shares = [value / area for value, area in zip(values, megapixels, strict=True)]
    return [f'{share:.3g}' if share < 1000 else f'{share:.0f}' for share in shares]


def exponent(values: Sequence[float], sizes: Sequence[int]) -> float:
    """Return p of cost ~ pixels^p between the first and the last size: 1 is linear."""
    if len(sizes) < 2:
        return math.nan
    return math.log(values[-1] / values[0]) / math.log(sizes[-1] ** 2 / sizes[0] ** 2)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options, with the defaults of the selected table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--table', default='plain', choices=list(MODELS))
    parser.add_argument('--models', nargs='+', help='timm model names')
    parser.add_argument('--sizes', nargs='+', type=int, help='image edges in px, ascending')
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--dtype', default='float32', choices=['float32', 'bfloat16', 'float16'])
    parser.add_argument('--compile', action='store_true', help='use torch.compile')
    parser.add_argument('--channels-last', action='store_true')
    add_options(parser)
    parser.add_argument('--threads', type=int, default=2, help='CPU threads')
    parser.add_argument(
        '--clock',
        default='wall',
        choices=list(CLOCKS),
        help='cpu: CPU time of the process, for one thread on a shared machine',
    )
    parser.add_argument('--warmup', type=int, default=2)
    parser.add_argument(
        '--runs', type=int, default=9, help='number of turns; 0 with --table pixels: count only'
    )
    args = parser.parse_args(argv)
    if args.runs < 1 and args.table != 'pixels':
        parser.error(f'got --runs {args.runs}; --table {args.table} needs 1 or more')
    args.models = args.models or MODELS[args.table]
    args.sizes = args.sizes or SIZES[args.table]
    args.window_size = args.window_size or WINDOWS[args.table]
    args.grad_checkpointing = args.grad_checkpointing or CHECKPOINTING[args.table]
    return args


def main() -> None:
    """Print the table."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    where = torch.cuda.get_device_name() if args.device.startswith('cuda') else 'CPU'
    threads = '' if args.device.startswith('cuda') else f', {args.threads} threads'
    print(
        f'{where}{threads}, torch {torch.__version__}, {args.dtype}, batch {args.batch}'
        f'{", compiled" if args.compile else ""}, {args.clock} time; medians of {args.runs}\n'
    )
    tables = {'plain': plain_table, 'training': training_table, 'pixels': pixels_table}
    (tables | {'frozen': frozen_table})[args.table](args)


if __name__ == '__main__':
    main()
