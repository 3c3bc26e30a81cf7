"""Rules that turn statistics of a data set into findings, each with advice.

A rule is a function that takes a `Split` and yields level, problem, examples and advice;
`Split.add` makes findings of those that have examples.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from .duplicates import find_copies, find_similar
from .scan import Array, Scan

ERROR, WARNING, NOTE = LEVELS = ('error', 'warning', 'note')
Example = tuple[str, str]  # a file, and what is wrong with it
Results = Iterable[tuple[str, str, Sequence[Example], str]]
_EXAMPLES = 5
_SMALLEST = 32  # pixels; what models take
_BALANCE = 20  # most frequent by rarest class


@dataclass(frozen=True)
class Finding:
    """One kind of problem in one split: how often, the first examples, and what to do."""

    level: str
    split: str
    problem: str
    count: int
    examples: tuple[Example, ...]
    advice: str


class Box(NamedTuple):
    """Index of the image, index of the class, and x, y, width, height in pixels."""

    image: int
    label: int
    xywh: Sequence[float]


@dataclass
class Split:
    """What is known of the data of one split."""

    name: str  # 'train', 'val' or 'test'
    classes: Sequence[str] = ()
    images: list[Scan] = field(default_factory=list)
    masks: list[Scan] = field(default_factory=list)  # one for each image, or empty
    ignored: set[int] = field(default_factory=set)  # labels of masks that are no class
    boxes: list[Box] | None = None
    sizes: list[tuple[int, int]] = field(default_factory=list)  # as the annotations say
    scale: tuple[int, int] | None = None  # sides to which the pipeline resizes images
    expected: tuple[Sequence[float], Sequence[float]] | None = None  # mean and std of the config
    findings: list[Finding] = field(default_factory=list)

    def add(self, results: Results) -> None:
        """Add what has examples to `findings`."""
        for level, problem, bad, advice in results:
            if bad:
                shown = tuple(bad[:_EXAMPLES])
                self.findings.append(Finding(level, self.name, problem, len(bad), shown, advice))

    @property
    def readable(self) -> list[Scan]:
        """The images that could be read."""
        return [one for one in self.images if not one.error]

    @cached_property
    def class_counts(self) -> Array:
        """Of each class its pixels or boxes, and the images that have it. `(classes, 2)`"""
        sums = Counter((one.image, one.label) for one in self.boxes or ())
        for number, mask in enumerate(self.masks):
            for label, count in mask.counts.items():
                if label in range(len(self.classes)) and label not in self.ignored:
                    sums[number, label] += count
        totals = np.zeros((len(self.classes), 2), np.int64)
        for (_, index), count in sums.items():
            totals[index] += (count, 1)
        return totals


def class_weights(counts: Array) -> list[float]:
    """Return weights by inverse frequency: all pixels / (classes * pixels of the class).

    Only classes that occur are counted; the others get 1.
    """
    even = counts.sum() / max(1, np.count_nonzero(counts))
    return [round(float(even / one), 3) if one else 1.0 for one in counts]


def mean_and_std(images: Sequence[Scan]) -> tuple[Array, Array] | None:
    """Return both for each channel over all pixels; None if the number of channels differs."""
    if len({one.mean.size for one in images}) != 1:
        return None
    pixels = [one.size[0] * one.size[1] for one in images]
    mean = np.average([one.mean for one in images], axis=0, weights=pixels)
    square = np.average([one.square for one in images], axis=0, weights=pixels)
    return mean, np.sqrt(np.maximum(square - mean**2, 0))


def unreadable(split: Split) -> Results:
    """Find files that are missing, empty, cut off or of an unknown format or encoding."""
    bad = [(one.path, one.error) for one in (*split.images, *split.masks) if one.error]
    advice = "Replace or remove the files; bad_files='skip' in the data set skips damaged ones."
    yield ERROR, 'files cannot be loaded', bad, advice


def image_sizes(split: Split) -> Results:
    """Find images that are too small, and labels of another size."""
    small = [(one.path, size_text(one.size)) for one in split.readable if min(one.size) < _SMALLEST]
    advice = f'Models take {_SMALLEST} px and more: remove them, or enlarge them by Resize.'
    yield WARNING, f'images have a side under {_SMALLEST} px', small, advice
    label_sizes = [one.size for one in split.masks] or split.sizes
    wrong = [
        (one, size)
        for one, size in zip(split.images, label_sizes, strict=False)
        if not one.error and size not in (one.size, (0, 0))
    ]
    bad = [(one.path, f'{size_text(one.size)}, labels {size_text(size)}') for one, size in wrong]
    advice = 'The labels belong to another version of the images: replace one of them.'
    if all(one.size == size[::-1] for one, size in wrong):
        advice = (
            'Width and height are exchanged: turn the labels. If EXIF turns the images and labels '
            "fit the stored pixels, set color_type='color_ignore_orientation' in LoadImageFromFile."
        )
    yield ERROR, 'images and their labels differ in size', bad, advice


def image_modes(split: Split) -> Results:
    """Find images of several modes, and those that EXIF turns."""
    images = split.readable
    modes = Counter(one.mode for one in images).most_common()
    deep = any(not mode.endswith(' 8 bits') for mode, _ in modes)
    bad = [(one.path, one.mode) for one in images if one.mode != modes[0][0]]
    advice = 'Write all files with the same bits; those of over 8 need LoadBands(max_value=...).'
    if not deep:
        advice = "All are loaded as three channels, unless color_type='unchanged' is set."
    usual = modes[0][0] if modes else ''
    yield WARNING if deep else NOTE, f'images are not {usual}, as most are', bad, advice
    turned = [(one.path, f'orientation {one.orientation}') for one in images if one.orientation > 1]
    advice = 'Labels must fit what is loaded: turned images, unless color_type ignores orientation.'
    yield NOTE, 'images have an EXIF orientation', turned, advice


def mask_values(split: Split) -> Results:
    """Find labels that are no class, and masks in which nothing is labelled."""
    known = {*range(len(split.classes)), *split.ignored}
    bad, void = list[Example](), list[Example]()
    for mask in split.masks:
        if wrong := [label for label in mask.counts if label not in known]:
            more = ', ...' * (len(wrong) > _EXAMPLES)
            bad.append((mask.path, ', '.join(map(str, wrong[:_EXAMPLES])) + more))
        elif mask.counts and split.ignored.issuperset(mask.counts):
            void.append((mask.path, ', '.join(map(str, mask.counts))))
    advice = (
        'Complete metainfo.classes, or set label_map={value: class index} in the data set, where '
        'ignore_index as the class means "none". Values are those after reduce_zero_label.'
    )
    yield ERROR, 'masks hold values that are no class', bad, advice
    advice = 'Nothing is learnt from them: label them, or correct ignore_index or label_map.'
    yield WARNING, 'masks have no pixel of a class', void, advice


def absent_classes(split: Split) -> Results:
    """Find classes that do not occur, in data that have labels."""
    counts = split.class_counts[:, 0] if split.masks or split.boxes else ()
    bad = [(name, '') for name, n in zip(split.classes, counts, strict=False) if not n]
    advice = 'Label them, move files between the splits, or remove the classes.'
    yield WARNING, 'classes do not occur', bad, advice


def class_balance(split: Split) -> Results:
    """Find rare classes in the training data, and suggest weights."""
    counts = split.class_counts[:, 0]
    rare = [
        (name, f'{100 * n / counts.sum():.2g} %')
        for name, n in zip(split.classes, counts, strict=True)
        if 0 < n * _BALANCE < counts.max() and split.name == 'train'
    ]
    advice = 'Sample their images more often, by ClassBalancedDataset(oversample_thr=0.1).'
    if split.masks:
        advice = (
            'Weights by inverse frequency, all pixels / (classes * pixels of the class), to set in '
            f'loss_decode: class_weight={class_weights(counts)}. Limit large ones, such as to 10.'
        )
    yield NOTE, f'classes are over {_BALANCE} times rarer than the most frequent', rare, advice


def normalisation(split: Split) -> Results:
    """Compare mean and standard deviation of the training data with `data_preprocessor`."""
    computed = mean_and_std(split.readable)
    if split.name != 'train' or computed is None or split.expected is None:
        return
    (mean, std), (given_mean, given_std) = computed, map(np.asarray, split.expected)
    where = [('data_preprocessor', f'mean={numbers(given_mean)}, std={numbers(given_std)}')]
    advice = f'Values of the data: mean={numbers(mean)}, std={numbers(std)}'
    if given_mean.size not in (1, mean.size):
        advice += f'. Set in_chans={mean.size} in model_kwargs of the ViT, too.'
        yield ERROR, f'numbers of means differ from the {mean.size} channels', where, advice
        return
    # Means of pretrained weights are kept for three channels; others are of these data.
    far = (2 if mean.size == 3 else 0.25) * given_std
    if np.any(np.abs(mean - given_mean) > far) or np.any(std < given_std / 10):
        yield WARNING, 'ranges of values differ from those that are expected', where, advice


def add_duplicates(splits: Sequence[Split]) -> None:
    """Add findings on copies and similar images, within and between splits."""
    owners = [number for number, split in enumerate(splits) for _ in split.readable]
    images = [one for split in splits for one in split.readable]
    copies = find_copies(images)
    similar = {key: n for key, n in find_similar(images).items() if key not in copies}
    twice = 'Each counts several times in training and in figures: keep one of them.'
    leak = 'Figures are too good for images that training has seen: keep copies, and all frames of '
    leak += 'a video, in one split.'
    groups: dict[tuple[str, int, int], list[Example]] = {}
    for kind, pairs in (('copies of', copies), ('similar to', similar)):
        for index, first in pairs.items():
            example = images[index].path, f'as {images[first].path}'
            groups.setdefault((kind, owners[index], owners[first]), []).append(example)
    for (kind, one, other), bad in groups.items():
        is_same = splits[one].name == splits[other].name
        level = LEVELS[(kind == 'similar to') + is_same]
        problem = f'images are {kind} images of {splits[other].name}'
        splits[one].add([(level, problem, bad, twice if is_same else leak)])


RULES: tuple[Callable[[Split], Results], ...] = (
    *(unreadable, image_sizes, image_modes, mask_values),
    *(absent_classes, class_balance, normalisation),
)


def size_text(size: Iterable[float]) -> str:
    """Return '640x480 px'."""
    return '{:g}x{:g} px'.format(*size)


def numbers(values: Iterable[float]) -> list[float]:
    """Return the values with two digits, as they are written in a config."""
    return [round(float(one), 2) for one in values]
