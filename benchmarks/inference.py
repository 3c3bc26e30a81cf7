"""Measure the ways to run a trained segmentation model on a CPU.

    python benchmarks/inference.py
    python benchmarks/inference.py --models vit_tiny_patch16_224 --lanes eager openvino

Every lane computes the logits of one image: eager PyTorch in float32, `torch.compile`, autocast to
bfloat16, and files of `vit_dense.export` in ONNX Runtime and OpenVINO. Weights are random. Lanes
run in turn, so that a change of the machine's speed affects all of them; each time is a median,
and each ratio the median of the ratios within a turn.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from tables import print_header, print_row
from torch import Tensor

import vit_dense.segmentation  # noqa: F401 - registers
from vit_dense.cpu import has_bfloat16_units
from vit_dense.export import wrap, write_file
from vit_dense.export.graph import trace
from vit_dense.export.write import onnx_to_openvino
from vit_dense.runtime.engines import Engine, open_engine
from vit_dense.runtime.file_description import FileDescription, Preprocessing

CONFIG = Path(__file__).parents[1] / 'configs' / '_base_' / 'models' / 'upernet_vit_adapter.py'
MODELS_OF = {
    'vit_tiny_patch16_224': (192, 3),
    'vit_small_patch16_224': (384, 6),
    'vit_base_patch16_224': (768, 12),
}
LANES = ('eager', 'compile', 'bf16', 'onnxruntime', 'openvino')
CLASSES = 150
Run = Callable[[Tensor], Any]


def build(name: str) -> Any:
    """Build ViT-Adapter and UPerNet on the ViT `name`, with random weights."""
    config = Config.fromfile(CONFIG)
    width, heads = MODELS_OF.get(name, (64, 4))
    model = config.model
    model.backbone.vit.update(model_name=name, pretrained=False, drop_path_rate=0.0)
    model.backbone.deform_num_heads = heads
    model.decode_head.update(in_channels=[width] * 4, num_classes=CLASSES)
    model.auxiliary_head = None
    with DefaultScope.overwrite_default_scope('mmseg'):
        return MODELS.build(model).eval().requires_grad_(False)


def lanes(model: Any, size: int, folder: Path, asked: list[str]) -> dict[str, Run | str]:
    """Return each lane, or why it is absent."""
    exportable = wrap(model, (size, size))
    found: dict[str, Run | str] = {}
    if 'eager' in asked:
        found['eager'] = exportable.module
    if 'compile' in asked:
        has_compiler = any(shutil.which(name) for name in ('g++', 'clang++', 'c++'))
        found['compile'] = torch.compile(exportable.module) if has_compiler else 'no C++ compiler'
    if 'bf16' in asked:

        def bf16(image: Tensor) -> Tensor:
            with torch.autocast('cpu', torch.bfloat16):
                return exportable.module(image)

        found['bf16'] = bf16
    if {'onnxruntime', 'openvino'} & set(asked):
        found.update(exported_lanes(exportable, size, folder))
    return {lane: found[lane] for lane in asked}


def exported_lanes(exportable: Any, size: int, folder: Path) -> dict[str, Run]:
    """Export once, and return what runs the two files."""
    steps = Preprocessing()
    description = FileDescription(
        'segmentation', (), (), (size, size), None, steps, exportable.settings
    )
    program = trace(exportable.module, exportable.inputs((size, size), 3), dynamic={0: 'batch'})
    onnx, openvino = folder / 'model.onnx', folder / 'model.xml'
    write_file(program, description, onnx, outputs=exportable.outputs, sampling='grid_sample')
    onnx_to_openvino(onnx, openvino, description)
    engines = {'onnxruntime': open_engine(onnx), 'openvino': open_engine(openvino)}
    return {lane: partial(_run_engine, engine) for lane, engine in engines.items()}


def _run_engine(engine: Engine, image: Tensor) -> Any:
    return engine.run({'image': image.numpy()})['logits']


def measure(runs: dict[str, Run | str], image: Tensor, turns: int) -> dict[str, list[float]]:
    """Return the seconds of each lane that is there, turn by turn, after two runs without."""
    present = {lane: run for lane, run in runs.items() if not isinstance(run, str)}
    times: dict[str, list[float]] = {lane: [] for lane in present}
    with torch.inference_mode():
        for turn in range(-2, turns):
            for lane, run in present.items():
                start = time.perf_counter()
                run(image)
                if turn >= 0:
                    times[lane].append(time.perf_counter() - start)
    return times


def machine() -> str:
    """Describe what the figures hold for."""
    names = [
        line.split(':')[1].strip()
        for line in Path('/proc/cpuinfo').read_text().splitlines()
        if line.startswith('model name')
    ]
    units = {True: 'with', False: 'without', None: 'perhaps with'}[has_bfloat16_units()]
    return (
        f'{names[0] if names else platform.machine()}, {torch.get_num_threads()} threads, '
        f'{units} bfloat16 units, PyTorch {torch.__version__}'
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--models', nargs='+', default=list(MODELS_OF))
    parser.add_argument('--lanes', nargs='+', default=list(LANES), choices=LANES)
    parser.add_argument('--size', type=int, default=512)
    parser.add_argument('--runs', type=int, default=5)
    args = parser.parse_args()
    print(f'{machine()}; UPerNet on ViT-Adapter, one image of {args.size} px\n')
    print_header('model', 'lane', 'ms', 'times as fast as eager')
    for name in args.models:
        model = build(name)
        image = torch.randn(1, 3, args.size, args.size)
        with tempfile.TemporaryDirectory() as folder:
            runs = lanes(model, args.size, Path(folder), args.lanes)
            times = measure(runs, image, args.runs)
        for lane, run in runs.items():
            if isinstance(run, str):
                print_row(name, lane, '-', run)
                continue
            cells = [f'{statistics.median(times[lane]) * 1000:.0f}', '-']
            if 'eager' in times:
                pairs = zip(times['eager'], times[lane], strict=True)
                cells[1] = f'{statistics.median(a / b for a, b in pairs):.2f}'
            print_row(name, lane, *cells)


if __name__ == '__main__':
    main()
