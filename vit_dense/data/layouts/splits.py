"""Splits of a data set: by folders, by lists of names, or by chance."""

import os
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..annotations import FORMATS, read_boxes, recognise_format
from ..pairs import choose_names, read_split_list
from .folders import Group, Pairs, find_pairs, groups, split_of

_VAL_SHARE, _SEED = 0.2, 0
_LISTS_READ, _NAMES_TRIED = 200, 200


@dataclass(frozen=True)
class Split:
    """One split; paths are relative to the data's root."""

    images: str  # folder
    labels: str | list[str]  # the folder of masks or of box files, or COCO files
    names: list[str]  # of the labelled images, relative to their folder
    is_part: bool = False  # whether a list must name the images to use: the folder has others
    img_suffix: str | None = None  # as `list_pairs` takes it
    suffix: str = ''  # of labels
    unlabelled: int = 0  # images in the folder without labels


def to_splits(pairs: Sequence[Pairs]) -> dict[str, Split]:
    """Return the splits of images with a label file each."""
    splits = {}
    counts = [len(one.names) * (2 if one.images == one.labels else 1) for one in pairs]
    used: Counter[str] = Counter()
    for one, count in zip(pairs, counts, strict=True):
        used[one.images.folder] += count
    for one, count in zip(pairs, counts, strict=True):
        total = len(one.images.files)
        splits[one.split or 'train'] = Split(
            one.images.folder or '.',
            one.labels.folder or '.',
            sorted(one.names),
            is_part=total > count,
            img_suffix=one.img_end,
            suffix=one.end,
            unlabelled=max(0, total - used[one.images.folder]),
        )
    return splits


def box_splits(
    root: str, chosen: Sequence[str], pictures: list[Group], role: str
) -> dict[str, Split]:
    """Return splits of images with boxes: of files for each image, else of COCO files."""
    for kind, reader in FORMATS.items():
        pairs = find_pairs(pictures, groups(chosen, [reader.SUFFIX], role))
        found = [one for one in pairs if (one.img_end, one.end) == (None, reader.SUFFIX)]
        if found and recognise_format(os.path.join(root, found[0].labels.folder)) == kind:
            return to_splits(found)
    by_split = defaultdict(list)
    for path in [one for one in chosen if one.endswith('.json')][:_LISTS_READ]:
        if recognise_format(os.path.join(root, path)) == 'coco':
            by_split[split_of(path)].append(path)
    if len(by_split) > 1:
        by_split.pop('', None)
    places = [one for one in pictures if one.role != 'labels']
    images = [os.path.join(one.folder, name) for one in places for name in one.files]
    return {split or 'train': _coco_split(root, images, by_split[split]) for split in by_split}


def _coco_split(root: str, images: Sequence[str], paths: list[str]) -> Split:
    content, _ = read_boxes([os.path.join(root, one) for one in paths], image_folder='')
    names = [one['file_name'] for one in content['images']]
    first = names[0] if names else 'none'
    folders = {one[: -len(first)] for one in images if f'/{one}'.endswith(f'/{first}')}
    if not folders:
        raise ValueError(
            f'{paths[0]} names images such as {first}, which is nowhere below {root}. Name the '
            'folder that has the images as well.'
        )
    known, split, tried = set(images), split_of(paths[0]), names[:_NAMES_TRIED]
    missing = {one: sum(one + name not in known for name in tried) for one in folders}
    best = min(folders, key=lambda one: (missing[one], split_of(one) != split, one))
    return Split(best.rstrip('/') or '.', paths[0] if len(paths) == 1 else paths, names)


def complete_splits(
    root: str, files: Sequence[str], splits: dict[str, Split]
) -> tuple[dict[str, Split], str]:
    """Divide what has no validation split, by lists of names or by chance.

    Returns:
        The splits, and where they come from.
    """
    if 'train' in splits and 'val' in splits:
        return splits, 'folders' if isinstance(splits['train'].labels, str) else 'annotation files'
    source = next(one for one in ('train', 'val', 'test') if one in splits)
    whole = splits[source]
    lists, division = _read_lists(root, files, whole.names)
    listed = {name for names in lists.values() for name in names}
    train = lists.setdefault('train', [one for one in whole.names if one not in listed])
    if 'val' not in lists:
        if len(train) < 2:
            raise ValueError(f'{root} has one labelled image: training and validation need two.')
        count = max(1, round(_VAL_SHARE * len(train)))
        division = f'{count} of {len(train)} images by chance (seed {_SEED})'
        val = set(random.Random(_SEED).sample(sorted(train), count))
        lists |= {'train': [one for one in train if one not in val], 'val': sorted(val)}
    parts = {one: replace(whole, names=names, is_part=True) for one, names in lists.items()}
    test = {one: splits[one] for one in splits if one == 'test' != source}
    return {**test, **parts}, division


def _read_lists(
    root: str, files: Sequence[str], known: Sequence[str]
) -> tuple[dict[str, list[str]], str]:
    """Return the longest list of each split that names known images, and the files."""
    lists: dict[str, list[str]] = {}
    places = {}
    stems = {one: os.path.splitext(one)[0] for one in known}
    texts = [one for one in files if one.endswith('.txt') and split_of(os.path.basename(one))]
    for path in texts[:_LISTS_READ]:
        split = split_of(os.path.basename(path))
        try:
            found, absent = choose_names(read_split_list(os.path.join(root, path)), stems)
        except ValueError:
            continue
        names = sorted({name for name, _ in found})
        if len(names) > max(len(absent), len(lists.get(split, ()))):
            lists[split], places[split] = names, path
    return lists, ', '.join(places.values())
