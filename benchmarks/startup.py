"""Time from a command to its answer: imports, `--help` and the text of configs, in CPU seconds.

    python benchmarks/startup.py [--repeats 5]

Each line is the median over fresh processes, which run in turn, and its ratio to `import torch`.
"""

import resource
import statistics
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_CONFIG = """
from mmengine.config import Config
import vit_dense
classes = tuple(f'class {{i}}' for i in range({0}))
palette = [[i % 256, i // 2, i // 3] for i in range({0})]
config = Config.fromfile({1!r})
for split in ('train', 'val', 'test'):
    config[f'{{split}}_dataloader'].dataset.metainfo = dict(classes=classes, palette=palette)
for _ in range(4):  # as often as a start of mmengine's runner asks for it
    config.pretty_text
"""
_DEMO = str(ROOT / 'configs/vit_upernet_demo.py')
CASES = {
    'import torch': ('-c', 'import torch'),
    'import torch._dynamo (by every optimizer)': ('-c', 'import torch._dynamo'),
    'import vit_dense': ('-c', 'import vit_dense'),
    'import vit_dense.segmentation': ('-c', 'import vit_dense.segmentation'),
    'import vit_dense.detection': ('-c', 'import vit_dense.detection'),
    'tools/train.py --help': (str(ROOT / 'tools/train.py'), '--help'),
    'vit-dense --help': ('-m', 'vit_dense', '--help'),
    'config text, 3 classes': ('-c', _CONFIG.format(3, _DEMO)),
    'config text, 300 classes': ('-c', _CONFIG.format(300, _DEMO)),
}


def cpu_seconds(arguments: tuple[str, ...]) -> float:
    """Return user and system time of a Python process with `arguments`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, '-W', 'ignore', *arguments], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print the table."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('--repeats', type=int, default=5, help='processes of each case')
    repeats = parser.parse_args().repeats
    found: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(repeats):
        for name, arguments in CASES.items():
            found[name].append(cpu_seconds(arguments))
    torch = statistics.median(found['import torch'])
    print('| | CPU seconds | of `import torch` |\n|---|---|---|')
    for name, seconds in found.items():
        median = statistics.median(seconds)
        print(f'| {name} | {median:.2f} | {median / torch:.2f} |')


if __name__ == '__main__':
    main()
