"""Find which image folders and label folders of a tree belong together.

Names of folders give role and split; names of files give the suffix rule: image and label begin
alike, up to a separator, and the most frequent remainders are the rule.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

_SPLITS = {
    **dict.fromkeys(('train', 'training'), 'train'),
    **dict.fromkeys(('val', 'valid', 'validation', 'dev'), 'val'),
    **dict.fromkeys(('test', 'testing'), 'test'),
}
_IMAGES = {'image', 'images', 'img', 'imgs', 'jpeg', 'jpg', 'rgb', 'photos', 'input', 'frames'}
_LABELS = {
    *('mask', 'masks', 'label', 'labels', 'annotation', 'annotations', 'annot', 'ann', 'anns'),
    *('gt', 'truth', 'groundtruth', 'seg', 'segmentation', 'target', 'targets', 'trimaps'),
}
# Words that may stand beside the name of a split.
_NOISE = {
    *('coco', 'json', 'list', 'set', 'data', 'dir', 'png', 'tif', 'fine', 'class', 'instances'),
    *('main', 'default', 'ground'),
}
# Files that hold no classes: drawings, instances.
_UNFIT = {'color', 'colors', 'colour', 'vis', 'overlay', 'object', 'instance', 'panoptic'}
_MIN_UNNAMED = 3  # pairs in one folder whose endings do not say which is the label
_SHOWN = 4


@dataclass(frozen=True)
class Group:
    """Files below one folder, which is relative to the data's root; `files` to the folder."""

    folder: str
    files: tuple[str, ...]
    role: str  # 'images' or 'labels', as the last folder with a telling name says, or ''


@dataclass(frozen=True)
class Pairs:
    """Images and labels that belong together: an image is named x + `img_end`, labels x + `end`."""

    split: str
    images: Group
    labels: Group
    img_end: str | None  # None: the image's own ending, whatever it is
    end: str
    names: tuple[str, ...] = ()  # of the paired images, relative to their folder

    def rank(self) -> tuple[int, int, int]:
        """Return what makes these pairs better than others of as many images."""
        tail, own = set(words(self.end)), set(words(self.img_end or ''))
        fit = 2 * (len(tail & _LABELS) - len(own & _LABELS)) - 4 * len(tail & _UNFIT)
        fit += len(tail & {'train', 'png'} - own)
        place = os.path.commonpath([self.images.folder, self.labels.folder])
        longer = len(self.end) - len(self.img_end or '') if self.images == self.labels else 0
        return fit, len(PurePosixPath(place).parts), longer


def words(name: str) -> list[str]:
    """Return the words in a name, lower case: 'leftImg8bit' has left, img, bit."""
    name = re.sub('^(train|val|test)(?=annot)', r'\1 ', name)
    return [one.lower() for one in re.findall('[A-Z]+(?![a-z])|[A-Z]?[a-z]+', name)]


def split_of(path: str) -> str:
    """Return 'train', 'val' or 'test' if a part of the path says so and nothing else, or ''."""
    for part in reversed(PurePosixPath(path).parts):
        found = set(words(PurePosixPath(part).stem))
        splits = {_SPLITS[one] for one in found & set(_SPLITS)}
        if len(splits) == 1 and not found - set(_SPLITS) - _IMAGES - _LABELS - _NOISE:
            return splits.pop()
    return ''


def groups(files: Iterable[str], suffixes: Iterable[str], role: str | None = None) -> list[Group]:
    """Group the files of the given endings by the last folder whose name says role or split."""
    below: dict[tuple[str, ...], list[PurePosixPath]] = defaultdict(list)
    wanted = set(suffixes)
    for path in map(PurePosixPath, files):
        if path.suffix.lower() in wanted:
            parts = path.parent.parts
            named = [n for n, one in enumerate(parts) if split_of(one) or _role(one)]
            below[parts[: named[-1] + 1 if named else 0]].append(path)
    found = []
    for paths in below.values():
        folder = os.path.commonpath([one.parent for one in paths])
        if role or not set(words(PurePosixPath(folder).name)) & _UNFIT:
            names = tuple(sorted(str(one.relative_to(folder)) for one in paths))
            found.append(Group(folder, names, role or _role(folder)))
    return found


def _role(folder: str) -> str:
    for part in reversed(PurePosixPath(folder).parts):
        if found := set(words(part)) & (_IMAGES | _LABELS):
            return 'labels' if found & _LABELS else 'images'
    return ''


def find_pairs(images: list[Group], labels: list[Group]) -> list[Pairs]:
    """Return the best pairs of each split.

    Raises:
        ValueError: Two folders or endings fit a split equally well.
    """
    by_split: dict[str, list[Pairs]] = defaultdict(list)
    for one in images:
        for other in labels:
            splits = {split_of(one.folder), split_of(other.folder)} - {''}
            is_elsewhere = other.role == 'images' and other.folder != one.folder
            if len(splits) < 2 and one.role != 'labels' and not is_elsewhere:
                by_split[''.join(splits)] += _by_rules(''.join(splits), one, other)
    found = [_best(one) for one in by_split.values() if one]
    named = [one for one in found if one.split]
    return named if any(one.split == 'train' for one in named) else found


def _best(found: list[Pairs]) -> Pairs:
    most = max(len(one.names) for one in found)
    found = [one for one in found if 2 * len(one.names) >= most]
    first, *others = sorted(found, key=lambda one: (one.rank(), len(one.names)), reverse=True)
    rivals = [one for one in others if one.rank() == first.rank()]
    if not rivals:
        return first
    shown = [f'{one.images.folder} with {one.labels.folder}/*{one.end}' for one in [first, *rivals]]
    raise ValueError(
        f'Several folders fit equally well: {"; ".join(shown[:_SHOWN])}. Name those to use with '
        f"--images {first.images.folder} and --masks '{first.labels.folder}/*{first.end}' "
        '(--boxes for boxes).'
    )


def _by_rules(split: str, images: Group, labels: Group) -> Iterator[Pairs]:
    """Yield the pairs by each suffix rule that fits at least half of the smaller side."""
    known, is_same = set(labels.files), images == labels
    seen: list[dict[str, str]] = []
    smaller = min(len(images.files), len(labels.files)) // (2 if is_same else 1)
    for img_end in [None, *_common_endings(images.files)]:
        stems = {
            name: name.removesuffix(img_end or PurePosixPath(name).suffix)
            for name in images.files
            if name.endswith(img_end or '')
        }
        starts = set(stems.values())
        ends = Counter(
            one[at:] for one in labels.files for at in _separators(one) if one[:at] in starts
        )
        for end, _ in ends.most_common(8):
            found = {one: stem + end for one, stem in stems.items() if stem + end in known}
            names = tuple(one for one in found if not is_same or one != found[one])
            pairs = Pairs(split, images, labels, img_end, end, names)
            if any(found.items() <= one.items() for one in seen):
                continue  # a shorter ending pairs these, too
            seen.append(found)
            if is_same and pairs.rank()[0] <= 0 and (img_end or len(names) < _MIN_UNNAMED):
                continue  # numbered images resemble each other, too
            if len(names) * 2 >= max(smaller, 1):
                yield pairs


def _common_endings(names: Sequence[str]) -> list[str]:
    """Return what at least half of the names end with, from a separator on, beyond '.png'."""
    counts = Counter(one[at:] for one in names for at in _separators(one))
    common = [one for one, count in counts.items() if 2 * count >= len(names)]
    return [one for one in common if PurePosixPath(f'x{one}').suffix != one]


def _separators(name: str) -> list[int]:
    return [at for at, letter in enumerate(name) if letter in '_-. ']
