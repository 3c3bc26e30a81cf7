"""Pairs of images and masks: suffix rules, lists of names, and what belongs to nothing."""

from pathlib import Path

import pytest

from vit_dense.data.pairs import Pairing, list_pairs, read_split_list


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def pair(root: Path, img_suffix: object = None, seg: str = '.png', **options: object) -> Pairing:
    """List `root/i` and `root/m`, and return names relative to `root`."""
    found = list_pairs(
        str(root / 'i'), str(root / 'm'), img_suffix=img_suffix, seg_map_suffix=seg, **options
    )

    def short(path: str) -> str:
        return str(Path(path).relative_to(root))

    return Pairing(
        [(short(image), short(mask)) for image, mask in found.pairs],
        [short(one) for one in found.images_without_mask],
        [short(one) for one in found.masks_without_image],
        [short(one) for one in found.other_images],
        found.names_without_image,
        [short(one) for one in found.missing_masks],
    )


@pytest.mark.parametrize(
    ('img_suffix', 'seg', 'image', 'mask'),
    [
        ('.jpg', '.png', 'a.jpg', 'a.png'),
        (None, '.png', 'a.JPG', 'a.png'),
        (None, '_L.png', 'a.png', 'a_L.png'),
        (None, '.png', 'a.npy', 'a.png'),
        (['.jpg', '_x.jpg'], '.png', 'a_x.jpg', 'a.png'),
        ('_leftImg8bit.png', '_gtFine.png', 'b/a_leftImg8bit.png', 'b/a_gtFine.png'),
    ],
)
def test_suffix_rules(tmp_path: Path, img_suffix: object, seg: str, image: str, mask: str) -> None:
    touch(tmp_path, f'i/{image}', f'm/{mask}', 'i/.hidden.jpg', 'i/.h/a.jpg', 'i/notes.txt')
    assert pair(tmp_path, img_suffix, seg) == Pairing([(f'i/{image}', f'm/{mask}')], [])


def test_what_belongs_to_nothing_is_listed(tmp_path: Path) -> None:
    touch(tmp_path, 'i/b.jpg', 'i/a.jpg', 'i/c.JPG', 'm/a.png', 'm/c.png', 'm/d.png', 'm/a.txt')
    found = pair(tmp_path, '.jpg')
    assert found.pairs == [('i/a.jpg', 'm/a.png')]
    assert found.images_without_mask == ['i/b.jpg']
    assert found.other_images == ['i/c.JPG']
    assert found.masks_without_image == ['m/c.png', 'm/d.png']


def test_a_mask_in_another_folder_is_not_taken(tmp_path: Path) -> None:
    touch(tmp_path, 'i/one/a.jpg', 'm/a.png')
    assert pair(tmp_path).images_without_mask == ['i/one/a.jpg']


def test_a_mask_in_the_folder_of_images_is_no_image_of_its_own(tmp_path: Path) -> None:
    touch(tmp_path, 'a.jpg', 'a.png', 'b.png')
    found = list_pairs(str(tmp_path), str(tmp_path), img_suffix=None, seg_map_suffix='.png')
    assert found.pairs == [(str(tmp_path / 'a.jpg'), str(tmp_path / 'a.png'))]
    assert found.masks_without_image == [str(tmp_path / 'b.png')]
    assert found.images_without_mask == found.other_images == []


def test_a_mask_of_a_list_that_is_missing(tmp_path: Path) -> None:
    """The mask of the same name is another one: it is not taken for it."""
    touch(tmp_path, 'i/a.jpg', 'm/a.png')
    found = pair(tmp_path, names=[('a', 'other/a_L.png')])
    assert (found.pairs, found.images_without_mask) == ([], ['i/a.jpg'])
    assert found.missing_masks == ['m/other/a_L.png']


@pytest.mark.parametrize('below', ['', 'masks'])
@pytest.mark.parametrize('seg', ['.png', '_L.png'])
def test_images_and_masks_in_one_folder(tmp_path: Path, below: str, seg: str) -> None:
    touch(tmp_path, 'a.jpg', 'b.jpg')
    touch(tmp_path / below, f'a{seg}', f'b{seg}')
    masks = str(tmp_path / below) if below else str(tmp_path)
    found = list_pairs(str(tmp_path), masks, img_suffix=None, seg_map_suffix=seg)
    expected = [(str(tmp_path / f'{n}.jpg'), str(tmp_path / below / f'{n}{seg}')) for n in 'ab']
    assert found == Pairing(expected, [])


def test_two_images_of_one_name(tmp_path: Path) -> None:
    touch(tmp_path, 'i/a.jpg', 'i/a.png', 'm/a_L.png')
    with pytest.raises(ValueError, match=r"a\.jpg and a\.png.*img_suffix='\.jpg'"):
        pair(tmp_path, None, '_L.png')
    assert pair(tmp_path, '.png', '_L.png').pairs == [('i/a.png', 'm/a_L.png')]


def test_without_masks(tmp_path: Path) -> None:
    touch(tmp_path, 'b.jpg', 'a.jpg')
    found = list_pairs(str(tmp_path), None, img_suffix='.jpg', seg_map_suffix='.png')
    assert found == Pairing([], [str(tmp_path / 'a.jpg'), str(tmp_path / 'b.jpg')])


@pytest.mark.parametrize(
    'name', ['b', 'b.jpg', 'b.png', 'x/b', '/data/i/b.jpg', 'x\\b.jpg', 'data/b.tif']
)
def test_names_with_and_without_endings_and_folders(tmp_path: Path, name: str) -> None:
    touch(tmp_path, 'i/a.jpg', 'i/b.jpg', 'm/a.png', 'm/b.png')
    found = pair(tmp_path, names=[(name, None), ('a', 'masks/b.png'), ('nine', None)])
    assert found.pairs == [('i/b.jpg', 'm/b.png'), ('i/a.jpg', 'm/b.png')]
    assert found.names_without_image == ['nine']
    assert found.masks_without_image == found.other_images == []


def test_names_of_one_image_in_two_folders(tmp_path: Path) -> None:
    """The folder is not the one that the list begins at: taking one image twice is wrong."""
    touch(tmp_path, 'i/a.jpg', 'm/a.png')
    with pytest.raises(ValueError, match=r"'one/a' and 'two/a' mean the same image"):
        pair(tmp_path, names=[('one/a', None), ('two/a', None)])
    twice = pair(tmp_path, names=[('a', None), ('a', None)])
    assert len(twice.pairs) == 2


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('a\r\n\r\nb.jpg\r\n', [('a', None), ('b.jpg', None)]),
        ('\ufeffa\n  b \n', [('a', None), ('b', None)]),
        ('a b.jpg\n', [('a b.jpg', None)]),
        ('a.jpg m/a.png', [('a.jpg', 'm/a.png')]),
        ('i/a m/a', [('i/a', 'm/a')]),
        ('a\tb', [('a', 'b')]),
        ('a b.jpg, c d.png', [('a b.jpg', 'c d.png')]),
        ('"x/a b/c, d.jpg"\r\n"', [('x/a b/c, d.jpg', None), ('"', None)]),
    ],
)
def test_lists(tmp_path: Path, text: str, expected: object) -> None:
    path = tmp_path / 'train.txt'
    path.write_bytes(text.encode())
    assert read_split_list(path) == expected


def test_lists_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'none\.txt cannot be read'):
        read_split_list(tmp_path / 'none.txt')
    path = tmp_path / 'train.txt'
    path.write_text('a\nb,c,d\n')
    with pytest.raises(ValueError, match=r"Line 2 of .* has 3 columns: 'b,c,d'"):
        read_split_list(path)


def test_twenty_thousand_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file is looked at by itself: on network disks that takes minutes."""
    names = [f'{i:05d}' for i in range(20000)]
    listing = {str(tmp_path / 'i'): '.jpg', str(tmp_path / 'm'): '.png'}
    monkeypatch.setattr(
        'os.walk', lambda top, **_: [(top, [], [name + listing[top] for name in names])]
    )
    for one in ('os.stat', 'os.path.exists', 'os.path.isfile'):
        monkeypatch.setattr(one, lambda *_: pytest.fail('a file was looked at'))
    found = list_pairs(
        str(tmp_path / 'i'), str(tmp_path / 'm'), img_suffix=None, seg_map_suffix='.png'
    )
    assert len(found.pairs) == 20000
    assert found.masks_without_image == found.other_images == []
