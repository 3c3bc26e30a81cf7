"""Compare our replacement of mmcv's compiled ops with compiled mmcv: values, gradients, time.

    python -m benchmarks.parity.mmcv_ops --compiled path/to/mmcv-2.1.0
    python -m benchmarks.parity.mmcv_ops --device cuda --dtypes float32 float16

Both run under mmcv's own Python functions, in one process and in turn, so that a change of the
machine's speed affects both; times are medians. The compiled side is the installed mmcv or, so that
`mmcv-lite` can stay installed, the extension of a build in another folder.

Both are also compared with the replacement in float64 on the same inputs, relative to the largest
value: in half precision this shows which of two different results is more accurate. Where compiled
mmcv refuses an op or dtype, ours is shown alone, with the error message.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import math
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor

import vit_dense  # noqa: F401 - registers the replacement before mmcv is imported
from benchmarks import measuring
from vit_dense.compat.mmcv_ext import boxes, deform, losses, roi

# isort: split
from benchmarks.parity.mmcv_op_cases import Case, cases
from benchmarks.tables import print_header, print_row

Result = tuple[list[Tensor], list[Tensor]]  # values, gradients

COLUMNS = (
    *('values differ by', 'gradients differ by', 'ours from float64', 'compiled from float64'),
    *('ms ours', 'ms compiled', 'ours / compiled'),
)
DTYPES = ['float32', 'float64', 'float16', 'bfloat16']
BINARIES = ('.so', '.pyd')
HOW_TO_BUILD = (
    'Build it in a separate environment with this torch ({torch}), ninja, wheel and setuptools<81 '
    '(ten minutes on two cores): unpack the source archive of mmcv {mmcv}, run '
    '`MMCV_WITH_OPS=1 python setup.py build_ext --inplace` in it, and pass its folder as '
    '--compiled. Or run this where compiled mmcv is installed.'
)


def compiled_ops(folder: Path | None) -> ModuleType:
    """Load the compiled extension of the build in `folder`, or of the installed mmcv.

    Raises:
        ValueError: There is none, or it was built for another torch.
    """
    import mmcv

    how = HOW_TO_BUILD.format(torch=torch.__version__, mmcv=mmcv.__version__)
    if folder is None:
        installed = importlib.import_module('mmcv._ext')
        # the replacement is not a file
        if not str(getattr(installed, '__file__', '')).endswith(BINARIES):
            raise ValueError(f'the installed mmcv has no compiled ops. {how}')
        return installed
    files = [x for x in sorted(folder.glob('mmcv/_ext*')) if x.suffix in BINARIES]
    if not files:
        raise ValueError(f'got --compiled {folder}, which holds no mmcv/_ext*.so. {how}')
    # under another package name, since the replacement has this one; the last part is fixed
    spec = importlib.util.spec_from_file_location('compiled_mmcv._ext', files[0])
    assert spec is not None
    assert spec.loader is not None
    try:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError as error:
        raise ValueError(
            f'{files[0].name} does not load with this torch: {error}. {how}'
        ) from error
    return module


def our_ops() -> SimpleNamespace:
    """Return our ops, also where compiled mmcv is installed."""
    # our attention would call mmcv's CUDA kernel, which is what it is compared with
    importlib.import_module('vit_dense.ops.ms_deform_attn').native_ms_deform_attn = lambda: None
    sources: tuple[Any, ...] = (boxes, deform, losses, roi)
    return SimpleNamespace(**{name: getattr(x, name) for x in sources for name in x.__all__})


@contextmanager
def below_mmcv(extension: Any) -> Iterator[None]:
    """Let mmcv's Python functions, including backward passes, call `extension`."""
    modules = [m for n, m in sys.modules.items() if n.startswith('mmcv.ops.') and m is not None]
    before = {m: m.ext_module for m in modules if hasattr(m, 'ext_module')}
    for module in before:
        module.ext_module = extension
    try:
        yield
    finally:
        for module, original in before.items():
            module.ext_module = original


def step(case: Case, inputs: list[Tensor]) -> Result:
    """Return values and gradients of one call."""
    leaves = [inputs[i] for i in case.differentiable]
    values = case.call(*inputs)
    if not leaves:
        return values, []
    (out,) = values
    weight = torch.linspace(-1, 1, out.numel(), device=out.device).view_as(out).to(out.dtype)
    return [out.detach()], list(torch.autograd.grad(out, leaves, weight))


def seconds(case: Case, inputs: list[Tensor], extension: Any) -> float:
    """Return the wall time of one call with its backward pass."""
    with below_mmcv(extension):
        return measuring.seconds(lambda case, _: step(case, inputs), case, inputs[0])


def difference(ours: list[Tensor], theirs: list[Tensor]) -> tuple[float, float]:
    """Return the largest absolute difference and the largest absolute value of a tensor.

    It is the tensor with the largest relative difference. Infinite where shapes differ: other boxes
    were kept.
    """
    if [x.shape for x in ours] != [x.shape for x in theirs]:
        return math.inf, 1.0
    pairs = [(a.double(), b.double()) for a, b in zip(ours, theirs, strict=True) if a.numel()]
    found = [(float((a - b).abs().amax()), float(b.abs().amax())) for a, b in pairs]
    # NaN first: max() would hide it
    return max(found, key=lambda x: math.inf if math.isnan(x[0]) else _share(*x), default=(0, 0))


def _share(error: float, scale: float) -> float:
    return error / scale if scale else error


def absolute(ours: list[Tensor], theirs: list[Tensor]) -> str:
    """Format the difference and the largest value."""
    error, scale = difference(ours, theirs)
    if math.isinf(error):
        return 'other shapes'
    if not any(x.numel() for x in ours):
        return 'both empty' if ours else ''
    return f'{error:.1e} of {scale:.1e}' if error else f'0 of {scale:.1e}'


def relative(result: Result, exact: Result) -> str:
    """Format the larger of the relative differences of values and gradients from float64."""
    shares = [_share(*difference(a, b)) for a, b in zip(result, exact, strict=True)]
    worst = max(shares, key=lambda x: math.inf if math.isnan(x) else x)
    return 'other shapes' if math.isinf(worst) else f'{worst:.0e}' if worst else '0'


def compare(
    case: Case, dtype: torch.dtype, device: str, compiled: Any, runs: int
) -> tuple[list[str], str | None]:
    """Return the cells of one case, and the error if compiled mmcv refused it."""
    torch.manual_seed(0)
    inputs = _cast(case, case.make(), dtype, device)
    sides: dict[str, Any] = {'ours': our_ops(), 'compiled': compiled}
    with below_mmcv(sides['ours']):
        ours = step(case, inputs)
        exact = step(case, _cast(case, inputs, torch.float64, device))
    theirs, refusal = None, None
    try:
        with below_mmcv(compiled):
            theirs = step(case, inputs)
    except RuntimeError as error:
        refusal = str(error).splitlines()[0]
        del sides['compiled']
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(runs):
        for name, extension in sides.items():
            times[name].append(seconds(case, inputs, extension))
    cells = [case.name, str(dtype).removeprefix('torch.')]
    shown = [f'{statistics.median(x) * 1000:.2f}' for x in times.values()]
    if theirs is None:
        cells += ['', '', relative(ours, exact), 'refused', *shown, '', '']
    else:
        cells += [absolute(a, b) for a, b in zip(ours, theirs, strict=True)]
        # ratios within a turn, so that a slow moment affects both
        ratios = [a / b for a, b in zip(times['ours'], times['compiled'], strict=True)]
        cells += [relative(ours, exact), relative(theirs, exact)]
        cells += [*shown, f'{statistics.median(ratios):.2f}']
    return cells, refusal


def _cast(case: Case, inputs: list[Tensor], dtype: torch.dtype, device: str) -> list[Tensor]:
    """Copy inputs to leaves, in this dtype unless they are integers."""
    copies = [x.detach().to(device, dtype if x.is_floating_point() else x.dtype) for x in inputs]
    return [x.requires_grad_(i in case.differentiable) for i, x in enumerate(copies)]


def print_table(args: argparse.Namespace, compiled: Any) -> None:
    """Print the table and, below it, what compiled mmcv refused."""
    where = torch.cuda.get_device_name() if args.device.startswith('cuda') else 'CPU'
    print(
        f'{where}, CPU threads: {args.threads}, torch {torch.__version__}; mmcv compiled with '
        f'{compiled.get_compiler_version()}, CUDA {compiled.get_compiling_cuda_version()}; '
        f'medians of {args.runs}, with the backward pass where there are gradients\n'
    )
    print_header('op', 'dtype', *COLUMNS)
    refusals: dict[str, tuple[list[str], str]] = {}
    for case in cases():
        for name in args.dtypes if case.name.startswith(tuple(args.ops)) else []:
            dtype = getattr(torch, name)
            cells, refusal = compare(case, dtype, args.device, compiled, args.runs)
            print_row(*cells)
            if refusal is not None:
                dtypes, _ = refusals.setdefault(case.name.partition(',')[0], ([], refusal))
                dtypes += [name] if name not in dtypes else []
    if refusals:
        print('\nCompiled mmcv refuses:\n')
    for op, (dtypes, refusal) in refusals.items():
        print(f'- {op} in {", ".join(dtypes)}: {refusal}')


def main() -> None:
    """Read the options, find compiled mmcv and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--compiled', type=Path, help='folder of a build, which contains mmcv/')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--dtypes', nargs='+', default=DTYPES, choices=DTYPES)
    parser.add_argument('--ops', nargs='+', default=[''], help='rows that start with one of these')
    parser.add_argument('--runs', type=int, default=9)
    parser.add_argument('--threads', type=int, default=1, help='CPU threads')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    try:
        compiled = compiled_ops(args.compiled)
    except ValueError as error:
        parser.error(str(error))
    print_table(args, compiled)


if __name__ == '__main__':
    main()
