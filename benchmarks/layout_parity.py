"""Do ViT files of other authors compute here what they compute in their authors' code?

    python benchmarks/layout_parity.py write PROJECT [CHECKOUT] --out FOLDER
    python benchmarks/layout_parity.py compare FOLDER

`write` builds the project's module small, sets all its weights, saves them as the authors' script
does, and keeps what the module computes; it needs only torch and what the authors import, in
whatever environment has it (DeiT and MAE: timm 0.3.2 on PYTHONPATH; Google's: jax and flax).
`compare` loads the files into TimmViT and prints the differences. `record` writes them down for
`tests/checkpoint/test_author_layouts.py`. Nothing of the projects is copied or kept.
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
from layout_case import DEPTH, Case
from layout_modules import PROJECTS
from layout_values import image
from torch import Tensor

LIMIT = 1e-4
# A block's names begin with its index.
BLOCK = re.compile(r'(.*?(?:blocks\.|layers\.|encoderblock_))(\d+)([./].+)')
# What the tests load: every layout, not every variant of it.
RECORDED = (
    'deit',
    'deit distilled',
    'deit3 rectangle',
    'mae pretrain',
    'mae finetuned',
    'mae resized',
    'dino training',
    'dinov2',
    'dinov2 registers',
    'dinov2 swiglu',
    'dinov2 grouped blocks',
    'beit finetuned',
    'beit2 finetuned rectangle',
    'beit2 pretrain with cls layers',
    'eva02 base pretrain',
    'eva02 tiny finetuned',
    'augreg',
    'big_vision',
    'big_vision attention pool',
    'mmpretrain vit',
    'mmpretrain vit resized',
    'mmpretrain clip',
    'mmpretrain no cls token',
    'mmpretrain deit distilled',
    'mmpretrain deit3',
    'mmpretrain dinov2',
    'mmpretrain mae',
    'mmpretrain mae finetuned',
    'mmpretrain beit mean',
    'mmpretrain beit pretrain',
    'mmpretrain eva',
    'mmpretrain eva02 tiny mean',
    'mmpretrain eva02 base',
    'mmseg vit',
    'mmseg clip',
    'mmseg beit',
    'mmseg mae',
    'timm training, vit_small_patch16_dinov3',
    'sam',
    'detectron2 vitdet resized',
)
VALUES = 12  # of each output, recorded
# Buffers, which the formula does not fill and the ViT does not read.
BUFFER = re.compile(
    r'relative_(?:position|coords)_\w*(?:index|table_index)$|rope\.freqs_(?:cos|sin)$'
)


def write(case: Case, folder: Path) -> None:
    """The file, and beside it what there is to know about it."""
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
    """Of all files in a folder.

    Raises:
        FileNotFoundError: There are none.
    """
    paths = sorted(folder.glob('*.facts'))
    if not paths:
        raise FileNotFoundError(f'no files of `write` in {folder}; run that first')
    # written by the other command of this script
    return [torch.load(path, weights_only=False) for path in paths]


@torch.no_grad()
def differences(facts: dict[str, Any], path: Path) -> tuple[dict[str, float], Any]:
    """Largest absolute difference after the last block and the norm, and the load report."""
    from vit_dense.backbones import TimmViT
    from vit_dense.weights import load_vit_weights

    normed = any('norm' in found for found in facts['outputs'].values())
    vit = TimmViT(facts['vit'], final_norm=normed, model_kwargs=facts['kwargs']).eval()
    report = load_vit_weights(vit.model, path, **facts['options'])
    worst: dict[str, float] = {}
    for (height, width), found in facts['outputs'].items():
        tokens, context = vit.embed(image(height, width))
        tokens = vit.run_blocks(tokens, context, 0, vit.depth)
        for place, theirs in found.items():
            ours = vit.to_map(tokens, context, final=place == 'norm').flatten(2).transpose(1, 2)
            key = f'{height}x{width} {place}'
            worst[key] = (ours - theirs).abs().max().item()
    return worst, report


def compare(folder: Path) -> float:
    """Prints a row for each file and returns the largest difference."""
    print('| file | timm model | image | last block | norm | loaded | left out | note |')
    print('|---|---|---|---|---|---|---|---|')
    largest = 0.0
    for facts in read_facts(folder):
        worst, report = differences(facts, folder / facts['path'])
        largest = max(largest, *worst.values())
        if report.missing or report.unexpected:
            largest = float('inf')
            print(report)
        sizes = [f'{height}x{width}' for height, width in facts['outputs']]
        cells = [
            f'{max(found):.1e}' if (found := [e for k, e in worst.items() if place in k]) else ''
            for place in ('blocks', 'norm')
        ]
        row = [facts['name'], facts['vit'], ', '.join(sizes), *cells]
        row += [str(len(report.loaded)), str(len(report.ignored)), facts['note']]
        print(f'| {" | ".join(row)} |', flush=True)
    return largest


def record(folder: Path, target: Path) -> None:
    """Names, shapes and a few values of the outputs, for the tests."""
    rows = {}
    for facts in read_facts(folder):
        if facts['name'] not in RECORDED:
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
    print(f'{target}: {len(rows)} of {len(RECORDED)} files, {target.stat().st_size} bytes')


def shorten(state: dict[str, list[int]]) -> dict[str, Any]:
    """The names, with those of the blocks under one key where blocks are alike; `~` is a buffer."""
    out: dict[str, Any] = {}
    for name, shape in state.items():
        match = BLOCK.match(name)
        marked = '~' * bool(BUFFER.search(name)) + name
        if match is None:
            out[marked] = shape
            continue
        before, index, after = match.groups()
        alike = [state.get(f'{before}{i}{after}') == shape for i in range(DEPTH)]
        if not all(alike):
            out[marked] = shape
        elif index == '0':
            key = '~' * bool(BUFFER.search(name)) + after
            out.setdefault(f'{before}*', {})[key] = shape
    return out


def summarise(found: dict[str, Tensor]) -> dict[str, Any]:
    """Twelve values of the tokens, after the norm where there is one."""
    place = 'norm' if 'norm' in found else 'blocks'
    flat = found[place].flatten()
    values = flat[:: flat.numel() // VALUES][:VALUES]
    return {'place': place, 'values': [round(v, 5) for v in values.tolist()]}


def main() -> int:
    """Runs one of the three commands; 1 where a difference reaches the limit."""
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
    args = parser.parse_args()
    warnings.simplefilter('ignore')  # the projects are of their time: old imports, old calls
    if args.command == 'write':
        args.out.mkdir(parents=True, exist_ok=True)
        for case in PROJECTS[args.project](args.checkout, args.grid):
            write(case, args.out)
        return 0
    if args.command == 'record':
        record(args.folder, args.target)
        return 0
    largest = compare(args.folder)
    print(f'\nLargest difference {largest:.1e}, limit {LIMIT:.0e}; torch {torch.__version__}')
    return int(largest >= LIMIT)


if __name__ == '__main__':
    sys.exit(main())
