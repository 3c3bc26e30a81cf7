"""Format the page of the documentation that `backbone_coverage.py` writes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import timm
import torch

from vit_dense.backbones.families import FAMILIES

Result = dict[str, Any]


def module_of(name: str) -> str:
    """Return the module of timm.models that registers a model."""
    return timm.model_entrypoint(name).__module__.rpartition('.')[2]


def has_status(status: str) -> Callable[[Result], bool]:
    """Return a function that tells whether a result has this status."""
    return lambda result: result['status'] == status


def is_narrowed(result: Result) -> bool:
    """Return whether a ViT was tested with fewer channels than it has."""
    return 'embed_dim' in result.get('reduced', {})


STATUSES = {status: has_status(status) for status in ('pyramid only', 'refused', 'fails')}
KINDS: dict[str, tuple[str, dict[str, Callable[[Result], bool]]]] = {
    'vit': (
        'Plain ViTs: `TimmViT` under SimpleFeaturePyramid, ViTAdapter and ViTCoMer',
        {
            'works': has_status('works'),
            'of these at full width': lambda r: r['status'] == 'works' and not is_narrowed(r),
            **STATUSES,
        },
    ),
    'pyramid': (
        'All other models: `TimmPyramid`',
        {
            'works': has_status('works'),
            'of these with numbers': lambda r: r['status'] == 'works' and r.get('numbers', False),
            'refused': STATUSES['refused'],
            'fails': STATUSES['fails'],
        },
    ),
}
"""Titles, and what the columns count."""


def table(results: dict[str, Result]) -> str:
    """Return the page."""
    lines = ['# Which timm models work', '']
    lines += [
        f'timm {timm.__version__}, torch {torch.__version__}. Written by '
        '`python benchmarks/backbone_coverage.py --write docs/coverage.md`;',
        'the checks are described at the top of that file. *Refused* means a `ValueError` when the '
        'model is built.',
        '',
    ]
    for kind, (title, columns) in KINDS.items():
        chosen = {n: r for n, r in results.items() if r['kind'] == kind}
        works = sum(r['status'] == 'works' for r in chosen.values())
        registered = sum((module_of(n) in FAMILIES) == (kind == 'vit') for n in timm.list_models())
        lines += [f'## {title}', '']
        lines += [f'{works} of the {len(chosen)} tested work; timm registers {registered}.', '']
        lines += ['| timm module | models | ' + ' | '.join(columns) + ' |']
        lines += ['|---|' + '---|' * (1 + len(columns))]
        for module in sorted({r['module'] for r in chosen.values()}):
            rows = [r for r in chosen.values() if r['module'] == module]
            cells = [sum(map(counts, rows)) or '' for counts in columns.values()]
            lines.append(f'| {module} | {len(rows)} | ' + ' | '.join(map(str, cells)) + ' |')
        lines += ['', *reductions(chosen), *reasons(chosen), '']
    text = '\n'.join(lines)
    return text.replace('\n\n\n', '\n\n').rstrip() + '\n'


def reductions(results: dict[str, Result]) -> list[str]:
    """Describe which ViTs were not tested as timm builds them."""
    tried = {n: r for n, r in results.items() if 'reduced' in r}
    if not tried:
        return []
    whole = [n for n, r in tried.items() if 'depth' not in r['reduced']]
    narrow = [n for n, r in tried.items() if is_narrowed(r)]
    shared = [n for n, r in tried.items() if 'num_kv_heads' in r['reduced'] and n not in narrow]
    lines = ['Tested at depth 4' + (f', except {", ".join(whole)}.' if whole else '.')]
    if narrow:
        lines.append(f'Tested with 48 channels, to fit in memory: {", ".join(narrow)}.')
    if shared:
        lines.append(f'With 4 key and value heads in each block: {", ".join(shared)}.')
    return [*lines, '']


def reasons(results: dict[str, Result]) -> list[str]:
    """Return one line for each reason for failure, with the modules concerned.

    Errors that differ only in numbers count as one reason, of which an example is shown.
    """
    grouped: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for name, result in results.items():
        if result['status'] != 'works':
            named = f'model_name={name!r} (timm.models.{result["module"]})'
            why = result['why'].replace(named, 'it').replace(repr(name), 'it')
            why = re.split(r'[:.] [Cc]hoose', why)[0].splitlines()[0].strip(' :.')
            key = re.sub(r'\d+', '0', why) if ' ended in ' in why else why
            grouped.setdefault((result['status'], key), []).append((result['module'], why))
    lines = []
    for (status, _), found in sorted(grouped.items(), key=lambda item: -len(item[1])):
        modules = Counter(module for module, _ in found)
        where = ', '.join(f'{module} {count}' for module, count in modules.most_common())
        lines.append(f'- {len(found)} {status} ({where}): {found[0][1].replace("|", "/")}')
    return lines
