"""Every mistake in a data folder ends in one message that names it and its remedy."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vit_dense.data.folder_checks import (
    LabelRule,
    check_folders,
    check_found,
    check_masks,
    check_pairs,
    read_mask,
)

PLAIN = LabelRule(num_labels=3, ignore_index=255, reduce_zero_label=False)
REDUCED = LabelRule(num_labels=3, ignore_index=255, reduce_zero_label=True)


def save(path: Path, values: object, mode: str | None = None) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.asarray(values))
    (picture.convert(mode) if mode else picture).save(path)
    return str(path)


def pair(tmp_path: Path, mask: object, name: str = 'a') -> tuple[str, str]:
    image = save(tmp_path / 'images' / f'{name}.png', np.zeros((4, 4, 3), np.uint8))
    return image, save(tmp_path / 'masks' / f'{name}.png', mask)


def filled(value: int, dtype: type = np.uint8) -> np.ndarray:
    mask = np.zeros((4, 4), dtype)
    mask[0, 0] = value
    return mask


def test_missing_folder_names_layout_source_and_demo(tmp_path: Path) -> None:
    root = str(tmp_path / 'ade')
    folders = [f'{root}/images/training', f'{root}/annotations/training']
    with pytest.raises(ValueError, match='does not exist') as error:
        check_folders(root, folders, ['.jpg', '.png'], 'From the official site.')
    text = str(error.value)
    for part in ('images/training/*.jpg', 'annotations/training/*.png', 'From the official site.'):
        assert part in text
    assert 'make demo' in text
    assert f'data_root={root!r}' in text


def test_existing_folders_pass(tmp_path: Path) -> None:
    check_folders(str(tmp_path), [str(tmp_path)], ['.png'], '')


def test_wrong_ending_names_what_is_there(tmp_path: Path) -> None:
    (tmp_path / 'a.jpeg').touch()
    with pytest.raises(ValueError, match=r"'\.png'.*found there: 1 \.jpeg.*img_suffix"):
        check_found(str(tmp_path), '.png', 0)


def test_image_without_mask_is_named(tmp_path: Path) -> None:
    good, bad = pair(tmp_path, filled(0)), pair(tmp_path, filled(0), 'b')
    Path(bad[1]).unlink()
    with pytest.raises(ValueError, match='1 of 2 images have no mask') as error:
        check_pairs([good, bad])
    assert bad[0] in str(error.value)
    assert bad[1] in str(error.value)
    assert good[1] not in str(error.value)


@pytest.mark.parametrize('value', [0, 2, 255])
def test_allowed_values_pass(tmp_path: Path, value: int) -> None:
    check_masks([pair(tmp_path, filled(value))], PLAIN)


@pytest.mark.parametrize('value', [0, 3, 255])
def test_allowed_values_pass_with_reduce_zero_label(tmp_path: Path, value: int) -> None:
    check_masks([pair(tmp_path, filled(value))], REDUCED)


@pytest.mark.parametrize(
    ('rule', 'value', 'hint'),
    [
        (PLAIN, 3, 'set reduce_zero_label=True'),
        (PLAIN, 7, 'Complete metainfo.classes'),
        (REDUCED, 4, 'more than 3 classes'),
        (LabelRule(3, 254, False), 255, 'ignore_index=255.*white'),
    ],
)
def test_value_outside_the_classes(tmp_path: Path, rule: LabelRule, value: int, hint: str) -> None:
    one = pair(tmp_path, filled(value))
    with pytest.raises(ValueError, match=hint) as error:
        check_masks([one], rule)
    text = str(error.value)
    assert one[1] in text
    assert f'the value {value}' in text
    assert 'with 3 classes' in text
    assert f'reduce_zero_label={rule.reduce_zero_label}' in text


def test_sixteen_bit_values_do_not_wrap(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='the value 257'):
        check_masks([pair(tmp_path, filled(257, np.uint16))], PLAIN)


def test_mask_of_another_size(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'has 6x5 pixels.*has 4x4'):
        check_masks([pair(tmp_path, np.zeros((5, 6), np.uint8))], PLAIN)


def test_coloured_mask(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'has 3 channels.*colours=\[\(0, 0, 0\)\]'):
        check_masks([pair(tmp_path, np.zeros((4, 4, 3), np.uint8))], PLAIN)


def test_unreadable_mask(tmp_path: Path) -> None:
    path = tmp_path / 'torn.png'
    path.write_bytes(b'not a picture')
    with pytest.raises(ValueError, match=r'torn\.png cannot be read as a picture'):
        read_mask(str(path))


def test_palette_and_binary_masks_read_as_indices(tmp_path: Path) -> None:
    palette = Image.fromarray(filled(2), mode='L').convert('P')
    palette.putdata(filled(2).ravel().tolist())
    palette.save(tmp_path / 'p.png')
    assert read_mask(str(tmp_path / 'p.png')).max() == 2
    binary = save(tmp_path / 'b.png', filled(255), '1')
    assert set(np.unique(read_mask(binary))) == {0, 1}


def test_scan_is_spread_evenly(tmp_path: Path) -> None:
    pairs = [pair(tmp_path, filled(7 if index == 9 else 0), str(index)) for index in range(10)]
    with pytest.raises(ValueError, match='the value 7'):
        check_masks(pairs, PLAIN, limit=2)
    check_masks(pairs[:9], PLAIN, limit=2)
    with pytest.raises(ValueError, match='the value 7'):
        check_masks(pairs, PLAIN)
    check_masks([], PLAIN)


def test_boxes_instead_of_masks(tmp_path: Path) -> None:
    (tmp_path / 'annotations').mkdir()
    (tmp_path / 'annotations' / 'train.json').write_text('{}')
    folders = [str(tmp_path / 'images' / 'training')]
    with pytest.raises(ValueError, match=r'detection there .*vit_maskrcnn_custom\.py'):
        check_folders(str(tmp_path), folders, ['.jpg'], source='')


def test_two_classes_of_one_colour() -> None:
    rule = LabelRule(2, 255, False, None, [[1, 2, 3], [1, 2, 3]])
    with pytest.raises(ValueError, match=r'\(1, 2, 3\) more than once'):
        rule.check()
