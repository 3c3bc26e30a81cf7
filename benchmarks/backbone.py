"""Speed and memory of the adapters against the plain timm ViT, in one process, interleaved.

    python benchmarks/backbone.py --models vit_tiny_patch16_224 vit_base_patch16_224 --sizes 512
    python benchmarks/backbone.py --device cuda --dtype bfloat16 --compile

All variants of a row take turns, so that a machine whose speed drifts slows all of them, and each
figure is a median. What counts are the ratios to the plain ViT's own forward (up to its last block,
no classifier), next to the ratio of multiply-adds: the cost that no implementation can avoid.

Memory is what one forward, or forward and backward, needs at its peak beyond weights and input: on
CUDA by torch's allocator, on Linux CPUs by the process's resident set.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import timm
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vit_dense.adapters import SimpleFeaturePyramid, ViTAdapter

# heads and value ratio of the deformable attention, as released
DEFORM = {192: (6, 1.0), 384: (6, 1.0), 768: (12, 0.5), 1024: (16, 0.5)}


class Plain(nn.Module):
    """timm's own forward up to its last block."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.model = timm.create_model(name, num_classes=0, dynamic_img_size=True)
        self.model.norm = self.model.fc_norm = nn.Identity()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return (self.model.forward_features(image),)


def build(name: str, args: argparse.Namespace) -> dict[str, nn.Module]:
    """The variants of one row."""
    vit = {
        'type': 'TimmViT',
        'model_name': name,
        'window_size': args.window_size,
        'grad_checkpointing': args.grad_checkpointing,
    }
    plain = Plain(name)
    width = plain.model.embed_dim
    heads, ratio = DEFORM.get(width, (plain.model.blocks[0].attn.num_heads, 1.0))
    return {
        'plain': plain,
        'SimpleFeaturePyramid': SimpleFeaturePyramid(dict(vit)),
        'ViTAdapter': ViTAdapter(dict(vit), deform_num_heads=heads, deform_ratio=ratio),
    }


def forward(model: Callable, image: Tensor) -> None:
    """One forward without a graph."""
    with torch.inference_mode():
        model(image)


def forward_backward(model: Callable, image: Tensor) -> None:
    """One training step without the optimizer's part."""
    torch.stack([x.float().square().mean() for x in model(image)]).sum().backward()


def seconds(step: Callable, model: Callable, image: Tensor) -> float:
    """Wall time of one step, kernels finished."""
    if image.is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    step(model, image)
    if image.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_bytes(step: Callable, model: Callable, image: Tensor) -> int | None:
    """Memory at its peak beyond what is held before and after; None where it can't be had."""
    gc.collect()
    if image.is_cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(model, image)
        return torch.cuda.max_memory_allocated() - before
    if not sys.platform.startswith('linux'):
        return None
    ctypes.CDLL(None).malloc_trim(0)  # memory that the allocator kept would hide the peak
    Path('/proc/self/clear_refs').write_text('5')  # resets the high-water mark
    before = _status('VmRSS')
    step(model, image)
    return _status('VmHWM') - before


def _status(field: str) -> int:
    """A figure of this process in bytes."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f'this kernel does not report {field}')


def multiply_adds(model: nn.Module, image: Tensor) -> float:
    """Of one forward: matrix products, convolutions and attention."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(image)
    return counter.get_total_flops() / 2


def measure(name: str, size: int, args: argparse.Namespace) -> list[str]:
    """The table rows of one model at one size."""
    device, dtype = torch.device(args.device), getattr(torch, args.dtype)
    image = torch.randn(args.batch, 3, size, size, device=device)
    if args.channels_last:
        image = image.contiguous(memory_format=torch.channels_last)
    models = {k: m.to(device) for k, m in build(name, args).items()}
    adds = {k: multiply_adds(m.eval(), image) for k, m in models.items()}
    runs: dict[str, Callable] = dict(models)
    if args.compile:
        runs = {k: torch.compile(m) for k, m in models.items()}
    rows = []
    times: dict[tuple[str, str], list[float]] = {}
    memory: dict[tuple[str, str], int | None] = {}
    steps = {'forward': forward, 'forward+backward': forward_backward}
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        for label, step in steps.items():
            for k, m in models.items():
                m.train(step is forward_backward)
                for _ in range(args.warmup):
                    seconds(step, runs[k], image)
                memory[k, label] = peak_bytes(step, runs[k], image)
            for _ in range(args.runs):
                for k in runs:
                    times.setdefault((k, label), []).append(seconds(step, runs[k], image))
            for m in models.values():
                m.zero_grad(set_to_none=True)
    for k in models:
        cells = [name, str(size), k, f'{adds[k] / adds["plain"]:.2f}']
        for label in steps:
            median = statistics.median(times[k, label])
            # pair by pair, so that a slow moment counts on both sides
            pairs = zip(times[k, label], times['plain', label], strict=True)
            ratio = statistics.median(mine / plain for mine, plain in pairs)
            peak = memory[k, label]
            shown = '-' if peak is None else f'{peak / 2**20:.0f}'
            cells += [f'{median * 1000:.1f}', f'{ratio:.2f}', shown]
        rows.append('| ' + ' | '.join(cells) + ' |')
    return rows


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--models',
        nargs='+',
        default=['vit_tiny_patch16_224', 'vit_small_patch16_224', 'vit_base_patch16_224'],
        help='timm model names',
    )
    parser.add_argument('--sizes', nargs='+', type=int, default=[512], help='image edges in px')
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--dtype', default='float32', choices=['float32', 'bfloat16', 'float16'])
    parser.add_argument('--compile', action='store_true', help='run through torch.compile')
    parser.add_argument('--channels-last', action='store_true')
    parser.add_argument('--window-size', type=int, help='windowed attention in the adapters')
    parser.add_argument('--grad-checkpointing', action='store_true', help='in the adapters')
    parser.add_argument('--threads', type=int, default=2, help='CPU threads')
    parser.add_argument('--warmup', type=int, default=2)
    parser.add_argument('--runs', type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    where = torch.cuda.get_device_name() if args.device.startswith('cuda') else 'CPU'
    threads = '' if args.device.startswith('cuda') else f', {args.threads} threads'
    print(
        f'{where}{threads}, torch {torch.__version__}, {args.dtype}, batch {args.batch}'
        f'{", compiled" if args.compile else ""}; medians of {args.runs}\n'
    )
    print(
        '| model | px | variant | multiply-adds / plain '
        '| forward ms | / plain | peak MiB | forward+backward ms | / plain | peak MiB |'
    )
    print('|---|---|---|---|---|---|---|---|---|---|')
    for name in args.models:
        for size in args.sizes:
            print('\n'.join(measure(name, size, args)), flush=True)


if __name__ == '__main__':
    main()
