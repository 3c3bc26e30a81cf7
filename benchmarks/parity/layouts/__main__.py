"""Compare ViT weight files of other authors, loaded here, with their authors' code.

    python -m benchmarks.parity.layouts write PROJECT [CHECKOUT] --out FOLDER
    python -m benchmarks.parity.layouts compare FOLDER

`write` builds small modules of the project, sets all weights, saves them as the authors' script
does, and keeps what the modules compute. It needs torch and what the authors import, in any
environment (DeiT and MAE: timm 0.3.2 on PYTHONPATH; Google's: jax and flax). `compare` loads the
files into TimmViT and prints the differences. `record` writes them down for
`tests/weights/test_author_layouts.py`. Nothing of the projects is copied or kept.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.parity.common import conclude, largest_difference
from benchmarks.parity.layouts import PROJECTS
from benchmarks.parity.layouts.case import DEPTH, Case
from benchmarks.parity.values import image
from benchmarks.tables import print_header, print_row

# names of blocks, which begin with an index
BLOCK = re.compile(r'(.*?(?:blocks\.|layers?\.|encoderblock_))(\d+)([./].+)')
RECORDED = Path(__file__).parents[3] / 'tests/weights/recorded_layouts.json'
VALUES = 12  # of each output, recorded
# buffers, which the formula does not fill and the ViT does not read
BUFFER = re.compile(
    r'relative_(?:position|coords)_\w*(?:index|table_index)$|rope\.freqs_(?:cos|sin)$'
)


def write(case: Case, folder: Path) -> None:
    """Write a case's file, and its other fields to a second file."""
    path = folder / (re.sub(r'\W+', '_', case.name) + case.suffix)
    if case.suffix == '.npz':
        import numpy as np

        np.savez(path, **case.content)
    elif case.suffix == '.safetensors':
        from safetensors.torch import save_file

        save_file({k: t.contiguous() for k, t in case.content.items()}, str(path))
    else:
        torch.save(case.content, path)
    facts = {**vars(case), 'path': path.name, 'content': None}
    facts['state'] = {name: list(tensor.shape) for name, tensor in case.state.items()}
    torch.save(facts, folder / f'{path.name}.facts')
    print(f'{case.name}: {len(case.state)} tensors')


def read_facts(folder: Path) -> list[dict[str, Any]]:
    """Read the fields of all cases in a folder.

    Raises:
        FileNotFoundError: There are none.
    """
    paths = sorted(folder.glob('*.facts'))
    if not paths:
        raise FileNotFoundError(f'no files of `write` in {folder}; run that first')
    # written by this script
    return [torch.load(path, weights_only=False) for path in paths]


@torch.no_grad()
def differences(facts: dict[str, Any], path: Path) -> tuple[dict[str, float], Any]:
    """Return the largest difference after the last block and the norm, and the load report."""
    from benchmarks.parity.loading import load_vit

    normed = any('norm' in found for found in facts['outputs'].values())
    vit, report = load_vit(
        facts['vit'], path, final_norm=normed, kwargs=facts['kwargs'], options=facts['options']
    )
    worst: dict[str, float] = {}
    for size, found in facts['outputs'].items():
        tokens, context = vit.embed(image(*size))
        tokens = vit.run_blocks(tokens, context, 0, vit.depth)
        for place, theirs in found.items():
            normed = vit.model.norm(tokens) if place == 'norm' else tokens
            ours = vit.to_map(normed, context).flatten(2).transpose(1, 2)
            worst[place] = max(worst.get(place, 0.0), largest_difference(ours, theirs))
    return worst, report


def compare(folder: Path) -> int:
    """Print a row for each file; return 1 if a difference reaches the limit."""
    columns = ('file', 'timm model', 'image', 'last block', 'norm', 'loaded', 'left out', 'note')
    print_header(*columns)
    found = []
    for facts in read_facts(folder):
        worst, report = differences(facts, folder / facts['path'])
        found += worst.values()
        if report.missing or report.unexpected:
            found.append(float('inf'))
            print(report)
        sizes = ', '.join(f'{height}x{width}' for height, width in facts['outputs'])
        cells = [f'{worst[place]:.1e}' if place in worst else '' for place in ('blocks', 'norm')]
        counts = len(report.loaded), len(report.ignored)
        print_row(facts['name'], facts['vit'], sizes, *cells, *counts, facts['note'])
    return conclude(found)


def record(folder: Path, target: Path, names: list[str]) -> int:
    """Write names, shapes and a few values of the outputs, for the tests."""
    rows = {}
    for facts in read_facts(folder):
        if facts['name'] not in names:
            continue
        rows[facts['name']] = {
            **{key: facts[key] for key in ('vit', 'kwargs')},
            **{key: facts[key] for key in ('section', 'options', 'zero_keys') if facts[key]},
            **({'suffix': facts['suffix']} if facts['suffix'] != '.pth' else {}),
            'names': shorten(facts['state']),
            'outputs': {
                f'{height}x{width}': summarise(found)
                for (height, width), found in facts['outputs'].items()
            },
        }
    lines = [
        f'{json.dumps(name)}:{json.dumps(row, separators=(",", ":"))}' for name, row in rows.items()
    ]
    target.write_text('{\n' + ',\n'.join(lines) + '\n}\n')
    print(f'{target}: {len(rows)} of {len(names)} files, {target.stat().st_size} bytes')
    return 0


def shorten(state: dict[str, list[int]]) -> dict[str, Any]:
    """Group the names of equal blocks under one key with `*`, and mark buffers by `~`."""
    out: dict[str, Any] = {}
    for name, shape in state.items():
        match = BLOCK.match(name)
        mark = '~' * bool(BUFFER.search(name))
        if match is None:
            out[mark + name] = shape
            continue
        before, index, after = match.groups()
        if any(state.get(f'{before}{i}{after}') != shape for i in range(DEPTH)):
            out[mark + name] = shape
        elif index == '0':
            out.setdefault(f'{before}*', {})[mark + after] = shape
    return out


def summarise(found: dict[str, Tensor]) -> dict[str, Any]:
    """Return twelve values of the tokens, after the norm if there is one."""
    place = 'norm' if 'norm' in found else 'blocks'
    flat = found[place].flatten()
    values = flat[:: flat.numel() // VALUES][:VALUES]
    return {'place': place, 'values': [round(v, 5) for v in values.tolist()]}


def main() -> int:
    """Run one of the three commands; return 1 if a difference reaches the limit."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    commands = parser.add_subparsers(dest='command', required=True)
    writing = commands.add_parser('write', help="files and outputs of a project's modules")
    writing.add_argument('project', choices=PROJECTS)
    writing.add_argument('checkout', type=Path, nargs='?', help='its folder; for EVA-02, asuka')
    writing.add_argument('--out', type=Path, required=True)
    writing.add_argument('--grid', type=int, default=14, help='edge of the token grid')
    comparing = commands.add_parser('compare', help='the table of differences')
    comparing.add_argument('folder', type=Path)
    recording = commands.add_parser('record', help='what the tests compare with')
    recording.add_argument('folder', type=Path)
    recording.add_argument('target', type=Path)
    recording.add_argument('--add', nargs='+', default=[], help='files not recorded before')
    args = parser.parse_args()
    warnings.simplefilter('ignore')  # the projects use outdated imports and calls
    if args.command == 'compare':
        return compare(args.folder)
    if args.command == 'record':
        return record(args.folder, args.target, [*json.loads(RECORDED.read_text()), *args.add])
    args.out.mkdir(parents=True, exist_ok=True)
    for case in PROJECTS[args.project](args.checkout, args.grid):
        write(case, args.out)
    return 0


if __name__ == '__main__':
    sys.exit(main())
