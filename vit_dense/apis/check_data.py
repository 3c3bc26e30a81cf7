"""Check the data of a config: read all files, and compare what they hold with the config."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from mmengine.config import Config

from ..data import box_findings, findings
from ..data.findings import ERROR, Split, numbers, size_text
from ..data.scan import Scan, scan_image, scan_mask
from ..runtime.progress import Progress
from .data_sources import Source, open_sources

SPLITS = ('train', 'val', 'test')
Table = tuple[list[str], list[list[str]]]


def check_data(
    config: Config, names: Sequence[str] = SPLITS, *, workers: int | None = None
) -> list[Source]:
    """Read all files of the data sets of a config, and find what is wrong.

    Args:
        config: From `load_config`.
        names: Splits to check. A test split with the files of another one is left out.
        workers: Threads that read files; None for one per CPU.

    Returns:
        The data sets; `source.split.findings` has what was found.

    Raises:
        ValueError: The config has none of the splits.
    """
    sources = open_sources(config, names)
    _scan(sources, config.get('model', {}).get('data_preprocessor') or {}, workers)
    for source in sources:
        split = source.split
        for rule in (*findings.RULES, *box_findings.RULES):
            split.add(rule(split))
        if not any(one.level == ERROR for one in split.findings):
            split.add(source.refusals())
    findings.add_duplicates([one.split for one in sources])
    return sources


def all_findings(sources: Sequence[Source]) -> list[findings.Finding]:
    """Return the findings of all splits, errors first."""
    found = [one for source in sources for one in source.split.findings]
    return sorted(found, key=lambda one: findings.LEVELS.index(one.level))


def make_tables(sources: Sequence[Source]) -> dict[str, Table]:
    """Return title -> header and rows, but for tables without rows: images may have no classes."""
    splits = [one.split for one in sources]
    tables = {'Data': _split_table(splits), 'Classes': _class_table(splits)}
    return {title: table for title, table in tables.items() if table[1]}


def _split_table(splits: Sequence[Split]) -> Table:
    """Return header and rows of a table with a split in each row."""
    rows = []
    for split in splits:
        sizes = sorted((one.size for one in split.readable), key=lambda size: size[0] * size[1])
        areas = '/'.join(map(str, box_findings.box_sizes(split))) if split.boxes else '-'
        row = [split.name, str(len(split.images)), str(len(split.masks)), areas]
        row.append(' to '.join(map(size_text, dict.fromkeys(sizes[:1] + sizes[-1:]))))
        moments = findings.mean_and_std(split.readable) or ((), ())
        rows.append(row + [str(numbers(values)) for values in moments])
    header = ['split', 'images', 'masks', 'small/medium/large boxes', 'sizes', 'mean', 'std']
    # Data have masks or boxes.
    used = [one for one in range(len(header)) if any(row[one] not in ('0', '-') for row in rows)]
    return [header[one] for one in used], [[row[one] for one in used] for row in rows]


def _class_table(splits: Sequence[Split]) -> Table:
    """Return header and rows of a table with a class in each row.

    A split has two columns: the share of pixels, or the number of boxes; the images with the class.
    """
    header, columns = ['class'], [list(splits[0].classes)]
    for split in splits:
        counts = split.class_counts
        total = max(1, counts[:, 0].sum())
        boxes = split.boxes is not None
        header += [f'{split.name} {"boxes" if boxes else "pixels"}', f'{split.name} images']
        columns.append([str(n) if boxes else f'{100 * n / total:.2f} %' for n in counts[:, 0]])
        columns.append([str(n) for n in counts[:, 1]])
    return header, [list(row) for row in zip(*columns, strict=False)]


def _scan(sources: Sequence[Source], preprocessor: Any, workers: int | None) -> None:
    """Read all files; channels get the order of `data_preprocessor`."""
    jobs: list[tuple[list[Scan], Callable[[], Scan]]] = []
    for source in sources:
        split = source.split
        if preprocessor.get('mean') is not None and preprocessor.get('std') is not None:
            split.expected = preprocessor['mean'], preprocessor['std']
        jobs += [(split.images, partial(scan_image, one, source.load)) for one in source.images]
        jobs += [(split.masks, partial(scan_mask, one, source.read)) for one in source.masks]
    progress = Progress(len(jobs), 'files')
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        scans = pool.map(lambda job: job[1](), jobs)
        for (scanned, _), scan in zip(jobs, scans, strict=True):
            if preprocessor.get('bgr_to_rgb') and scan.mean.size == 3:
                scan.mean, scan.square = scan.mean[::-1], scan.square[::-1]
            scanned.append(scan)
            progress.advance()
    progress.close()
