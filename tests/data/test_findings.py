"""Each fault, planted in the statistics of sound data, gives its finding and no other."""

from collections.abc import Callable

import numpy as np
import pytest

from vit_dense.data import box_findings, findings
from vit_dense.data.findings import Box, Finding, Split, add_duplicates, class_weights, mean_and_std
from vit_dense.data.scan import Scan

Fault = Callable[[Split], object]


def image(name: str, seed: int) -> Scan:
    rng = np.random.default_rng(seed)
    return Scan(
        name,
        size=(64, 48),
        mode='RGB, 8 bits',
        digest=name.encode(),
        look=rng.integers(0, 2, 64).astype(bool),
        mean=np.full(3, 120.0),
        square=np.full(3, 120.0**2 + 60.0**2),
        maximum=255.0,
    )


def sound_masks() -> Split:
    """Returns four images with masks of two classes; 255 is no class."""
    return Split(
        'train',
        classes=('road', 'car'),
        images=[image(f'{n}.png', n) for n in range(4)],
        masks=[
            Scan(f'm{n}.png', size=(64, 48), counts={0: 2000, 1: 1000, 255: 72}) for n in range(4)
        ],
        ignored={255},
        expected=([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),
    )


def sound_boxes() -> Split:
    """Returns four images with two boxes each, resized to twice their size."""
    return Split(
        'train',
        classes=('cat', 'dog'),
        images=[image(f'{n}.png', n) for n in range(4)],
        boxes=[Box(n, label, (4 + label, 5, 20, 30)) for n in range(4) for label in range(2)],
        sizes=[(64, 48)] * 4,
        scale=(128, 96),
    )


def find(*splits: Split) -> list[Finding]:
    for split in splits:
        for rule in (*findings.RULES, *box_findings.RULES):
            split.add(rule(split))
    add_duplicates(splits)
    return [one for split in splits for one in split.findings]


def setter(owner: str, index: int, **values: object) -> Fault:
    """Returns a fault that sets attributes of one scan."""

    def plant(split: Split) -> None:
        for name, value in values.items():
            setattr(getattr(split, owner)[index], name, value)

    return plant


def test_sound_data_have_no_findings() -> None:
    assert find(sound_masks()) == find(sound_boxes()) == []


MASK_FAULTS = {
    'unreadable image': (
        setter('images', 1, error='empty'),
        ('error', 'files cannot be loaded', 1, ('1.png', 'empty'), 'bad_files'),
    ),
    'unreadable mask': (
        setter('masks', 1, error='cut off', counts={}, size=(0, 0)),
        ('error', 'files cannot be loaded', 1, ('m1.png', 'cut off'), 'bad_files'),
    ),
    'small image': (
        lambda s: [setter(owner, 2, size=(20, 48))(s) for owner in ('images', 'masks')],
        ('warning', 'images have a side under 32 px', 1, ('2.png', '20x48 px'), 'Resize'),
    ),
    'mask of another size': (
        setter('masks', 3, size=(32, 24)),
        ('error', 'images and their labels differ in size', 1,
         ('3.png', '64x48 px, labels 32x24 px'), 'another version'),
    ),
    'transposed mask': (
        setter('masks', 3, size=(48, 64)),
        ('error', 'images and their labels differ in size', 1,
         ('3.png', '64x48 px, labels 48x64 px'), 'exchanged'),
    ),
    'other mode': (
        setter('images', 0, mode='L, 8 bits'),
        ('note', 'images are not RGB, 8 bits, as most are', 1,
         ('0.png', 'L, 8 bits'), 'color_type'),
    ),
    'other bit depth': (
        setter('images', 0, mode='I;16, 16 bits'),
        ('warning', 'images are not RGB, 8 bits, as most are', 1,
         ('0.png', 'I;16, 16 bits'), 'LoadBands'),
    ),
    'EXIF': (
        setter('images', 0, orientation=6),
        ('note', 'images have an EXIF orientation', 1, ('0.png', 'orientation 6'), 'color_type'),
    ),
    'value out of range': (
        setter('masks', 2, counts={0: 9, 1: 9, 7: 1, 8: 1}),
        ('error', 'masks hold values that are no class', 1, ('m2.png', '7, 8'), 'label_map'),
    ),
    'void mask': (
        setter('masks', 2, counts={255: 9}),
        ('warning', 'masks have no pixel of a class', 1, ('m2.png', '255'), 'ignore_index'),
    ),
    'absent class': (
        lambda s: [one.counts.pop(1) for one in s.masks],
        ('warning', 'classes do not occur', 1, ('car', ''), 'remove the classes'),
    ),
    'rare class': (
        lambda s: [one.counts.update({1: 10}) for one in s.masks],
        ('note', 'classes are over 20 times rarer than the most frequent', 1,
         ('car', '0.5 %'), 'class_weight=[0.502, 100.5]'),
    ),
    'other range of values': (
        lambda s: [setter('images', n, mean=np.full(3, 0.5), square=np.full(3, 0.3))(s)
                   for n in range(4)],
        ('warning', 'ranges of values differ from those that are expected', 1,
         ('data_preprocessor', 'mean=[123.67, 116.28, 103.53], std=[58.4, 57.12, 57.38]'),
         'mean=[0.5, 0.5, 0.5], std=[0.22, 0.22, 0.22]'),
    ),
    'four channels': (
        lambda s: [setter('images', n, mean=np.full(4, 99.0), square=np.full(4, 99.0**2 + 25))(s)
                   for n in range(4)],
        ('error', 'numbers of means differ from the 4 channels', 1,
         ('data_preprocessor', 'mean=[123.67, 116.28, 103.53], std=[58.4, 57.12, 57.38]'),
         'mean=[99.0, 99.0, 99.0, 99.0], std=[5.0, 5.0, 5.0, 5.0]'),
    ),
    'copy': (
        setter('images', 3, digest=b'0.png'),
        ('warning', 'images are copies of images of train', 1, ('3.png', 'as 0.png'), 'keep one'),
    ),
    'similar': (
        lambda s: setter('images', 3, look=s.images[1].look)(s),
        ('note', 'images are similar to images of train', 1, ('3.png', 'as 1.png'), 'keep one'),
    ),
}  # fmt: skip
BOX_FAULTS = {
    'annotated for another size': (
        lambda s: s.sizes.__setitem__(1, (128, 96)),
        ('error', 'images and their labels differ in size', 1,
         ('1.png', '64x48 px, labels 128x96 px'), 'another version'),
    ),
    'annotated before the turn': (
        setter('images', 1, size=(48, 64)),
        ('error', 'images and their labels differ in size', 1,
         ('1.png', '48x64 px, labels 64x48 px'), 'color_ignore_orientation'),
    ),
    'tiny object': (
        lambda s: s.boxes.extend([Box(2, 0, (4, 4, 3, 3)), *(Box(2, 1, (9 + n, 9, 9, 9))
                                                            for n in range(9))]),
        ('note', 'objects are under 8 px for the model', 1,
         ('2.png', '3x3 px, 6.0 px at the scale of the pipeline'), 'enlarge scale'),
    ),
    'tiny objects': (
        lambda s: s.boxes.extend([Box(2, 0, (4, 4, 3, 3)), Box(2, 0, (4, 5, 3, 3))]),
        ('warning', 'objects are under 8 px for the model', 2,
         ('2.png', '3x3 px, 6.0 px at the scale of the pipeline'), 'enlarge scale'),
    ),
    'image without objects': (
        lambda s: s.boxes.__delitem__(slice(2, 4)),
        ('note', 'images have no object', 1, ('1.png', ''), 'filter_empty_gt'),
    ),
    'absent class': (
        lambda s: s.boxes.__delitem__(slice(1, None, 2)),
        ('warning', 'classes do not occur', 1, ('dog', ''), 'remove the classes'),
    ),
    'rare class': (
        lambda s: s.boxes.extend(Box(2, 0, (4, 4, 20 + n / 99, 20)) for n in range(100)),
        ('note', 'classes are over 20 times rarer than the most frequent', 1,
         ('dog', '3.7 %'), 'ClassBalancedDataset'),
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ('make', 'fault', 'expected'),
    [
        *(pytest.param(sound_masks, *one, id=f'masks, {key}') for key, one in MASK_FAULTS.items()),
        *(pytest.param(sound_boxes, *one, id=f'boxes, {key}') for key, one in BOX_FAULTS.items()),
    ],
)
def test_a_fault_gives_its_finding_alone(
    make: Callable[[], Split], fault: Fault, expected: tuple[str, str, int, tuple[str, str], str]
) -> None:
    split = make()
    fault(split)
    (found,) = find(split)
    *values, advice = expected
    assert [found.level, found.problem, found.count, found.examples[0]] == values
    assert advice in found.advice


@pytest.mark.parametrize(
    ('attribute', 'level', 'problem'),
    [
        ('digest', 'error', 'images are copies of images of train'),
        ('look', 'warning', 'images are similar to images of train'),
    ],
)
def test_images_in_two_splits(attribute: str, level: str, problem: str) -> None:
    train, val = sound_masks(), sound_masks()
    val.name = 'val'
    val.images = [image(f'v{n}.png', 10 + n) for n in range(4)]
    setattr(val.images[2], attribute, getattr(train.images[1], attribute))
    (found,) = find(train, val)
    assert (found.level, found.split, found.problem) == (level, 'val', problem)
    assert found.examples == (('v2.png', 'as 1.png'),)
    assert 'in one split' in found.advice


def test_two_data_sets_of_one_split_are_no_leak() -> None:
    (found,) = find(sound_masks(), Split('train', images=[image('0.png', 0)]))
    assert (found.level, found.problem) == ('warning', 'images are copies of images of train')


def test_only_the_first_examples_are_kept() -> None:
    split = sound_masks()
    split.images = [Scan(f'{n}.png', error='empty') for n in range(9)]
    split.masks = []
    (found,) = find(split)
    assert (found.count, len(found.examples)) == (9, 5)


def test_weights_by_inverse_frequency() -> None:
    # 80 pixels of two classes that occur: 80 / (2 * 60) and 80 / (2 * 20).
    assert class_weights(np.array([60, 0, 20])) == [0.667, 1.0, 2.0]


def test_statistics_are_weighted_by_pixels() -> None:
    small = Scan('', size=(1, 1), mean=np.array([10.0]), square=np.array([100.0]))
    large = Scan('', size=(3, 1), mean=np.array([20.0]), square=np.array([400.0]))
    computed = mean_and_std([small, large])
    assert computed is not None
    np.testing.assert_allclose(computed, [[17.5], [np.std([10, 20, 20, 20])]])


def test_sizes_of_boxes() -> None:
    split = sound_boxes()
    split.boxes = [Box(0, 0, (0, 0, side, side)) for side in (31, 32, 95, 96, 200)]
    assert box_findings.box_sizes(split) == [1, 2, 2]


def test_images_of_unknown_size_are_left_out() -> None:
    split = sound_boxes()
    split.sizes[0] = (0, 0)
    setter('images', 0, error='no such file')(split)
    assert [one.problem for one in find(split)] == ['files cannot be loaded']
