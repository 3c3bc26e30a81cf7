"""Check and measure one GPU within ten minutes, and write a Markdown report.

    python benchmarks/gpu.py --out gpu.md
    python benchmarks/gpu.py --sections training --limit 200
    python benchmarks/gpu.py --tiny --device cpu

The sections, each a process of its own with a share of the time that is left, so that neither a
crash nor a slow compiler costs the others: the tests marked `cuda`; training steps of the
backbones and of whole models; the backends of deformable attention; compilation, memory format
and checkpointing; evaluation with its data loader. A measurement that fails is a row with the
error. Every row is printed and written to the report at once. The report starts with the rows that
take more than their multiply-adds suggest.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import gpu_sections
import torch
from tables import header

ROOT = Path(__file__).resolve().parents[1]
TESTS = 'tests'
TEST_FOLDERS = ('tests/cuda', 'tests/compat', 'tests/configs')  # where some are marked `cuda`
# Section -> share of the time, in order of value; what a section leaves is left to the next ones.
SHARES = {TESTS: 30, 'training': 32, 'attention': 12, 'modes': 16, 'evaluation': 10}
# What pytest prints that belongs in the report: failures and the last line.
_OUTCOME = re.compile(r'.*\b(FAILED|ERROR)\b|.*\d+ (passed|failed|skipped|error|deselected)')
_OVER = re.compile(r'\*\*([\d.]+)\*\*')


class Report:
    """The lines of the report, written to a file after each one."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.lines: list[str] = []

    def add(self, *lines: str) -> None:
        """Print lines and save the report."""
        for line in lines:
            print(line, flush=True)
        self.lines += lines
        if self.path is not None:
            self.path.write_text('\n'.join([*self.lines[:2], *self.slow_rows(), *self.lines[2:]]))

    def slow_rows(self) -> list[str]:
        """Return a table of the training rows above the limit, worst first."""
        found = [(float(m[1]), line) for line in self.lines if (m := _OVER.search(line))]
        if not found:
            return []
        rows = [line for _, line in sorted(found, key=lambda one: -one[0])]
        title = f'## Slower than {gpu_sections.LIMIT} times what multiply-adds suggest'
        return ['', title, '', header(*gpu_sections.TRAINING_COLUMNS), *rows]


def relay(command: Sequence[str], seconds: float, add: Callable[[str], None]) -> str | None:
    """Run a command, pass its output on line by line, and return what went wrong, or None.

    The command and all processes that it started are ended after `seconds`.
    """
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        errors='replace',
        start_new_session=True,
        cwd=ROOT,
        env={**os.environ, 'PYTHONUNBUFFERED': '1', 'PYTHONPATH': _python_path()},
    )
    late = threading.Event()

    def end() -> None:
        late.set()
        os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(max(seconds, 1), end)
    timer.start()
    try:
        for line in process.stdout or ():
            add(line.rstrip('\n'))
        code = process.wait()
    finally:
        timer.cancel()
    if late.is_set():
        return f'Ended after {seconds:.0f} s, its share of the time.'
    return f'Ended with exit code {code}; its error is above.' if code else None


def _python_path() -> str:
    """Return the path of modules with this checkout in front."""
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH', '')]))


def command_of(section: str, seconds: float, args: argparse.Namespace) -> list[str]:
    """Return the command that runs a section by itself."""
    if section == TESTS:
        spread = importlib.util.find_spec('xdist') and not args.tiny
        options = ['-n', '4', '--dist', 'loadfile'] if spread else []
        options += ['--collect-only', 'tests/cuda'] if args.tiny else ['-vv', *TEST_FOLDERS]
        common = ['-m', 'pytest', '-m', 'cuda', '-rfE', '--tb=short', '-p', 'no:cacheprovider']
        return [sys.executable, *common, *options]
    until = str(time.monotonic() + 0.9 * seconds)  # the section stops itself earlier
    options = ['--until', until, '--device', args.device, *(['--tiny'] * args.tiny)]
    return [sys.executable, '-W', 'ignore', __file__, '--alone', section, *options]


def run_section(section: str, seconds: float, args: argparse.Namespace, report: Report) -> None:
    """Run a section in a process of its own, and add what it prints to the report."""
    report.add('', f'## {section.capitalize()}', '')
    start = time.monotonic()

    def outcome(line: str) -> None:
        if _OUTCOME.match(line):
            report.add(f'    {line}')
        elif 'PASSED' not in line:
            print(line, flush=True)

    add = outcome if section == TESTS else report.add
    problem = relay(command_of(section, seconds, args), seconds, add)
    report.add('', *([problem] if problem else []), f'{time.monotonic() - start:.0f} s')


def run_alone(section: str, args: argparse.Namespace) -> None:
    """Run a section in this process."""
    deadline = time.monotonic() + args.limit if args.until is None else args.until
    setting = gpu_sections.Setting(args.device, args.tiny, deadline)
    gpu_sections.SECTIONS[section](setting)


def describe(device: str) -> str:
    """Name the device and the versions."""
    name = torch.cuda.get_device_name(device) if device.startswith('cuda') else 'CPU'
    versions = f'torch {torch.__version__}, Python {sys.version.split()[0]}'
    if not device.startswith('cuda'):
        return f'{name}, {versions}'
    memory = torch.cuda.get_device_properties(device).total_memory / 2**30
    return f'{name} ({memory:.0f} GiB), {versions}'


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--limit', type=float, default=570, help='seconds for everything')
    parser.add_argument('--out', type=Path, help='Markdown file for the report')
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--tiny', action='store_true', help='smallest sizes, for tests on CPUs')
    parser.add_argument('--sections', nargs='+', default=list(SHARES), choices=SHARES)
    parser.add_argument('--alone', choices=gpu_sections.SECTIONS, help=argparse.SUPPRESS)
    parser.add_argument('--until', type=float, help=argparse.SUPPRESS)  # of time.monotonic
    args = parser.parse_args(argv)
    if args.device.startswith('cuda') and not torch.cuda.is_available():
        parser.error('PyTorch sees no GPU here: use --device cpu --tiny to try the script.')
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Run all sections, or one of them by itself."""
    args = parse_args(argv)
    if args.alone:
        run_alone(args.alone, args)
        return
    end = time.monotonic() + args.limit
    report = Report(args.out)
    report.add('# Measurements on one GPU', describe(args.device))
    shares = {name: SHARES[name] for name in SHARES if name in args.sections}
    for section in list(shares):
        part = shares[section] / sum(shares.values())
        del shares[section]
        run_section(section, part * (end - time.monotonic()), args, report)


if __name__ == '__main__':
    main()
