"""Data sets are unpacked from small imitations of the archives that their sites deliver."""

import io
import os
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from vit_dense.data.prepare import RELEASES, prepare

VOC = {'train': ['2007_1', '2007_2'], 'val': ['2007_3']}


def zip_files(path: Path, names: list[str]) -> None:
    with zipfile.ZipFile(path, 'w') as archive:
        for name in names:
            archive.writestr(name, f'content of {name}')


def tar_files(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, 'w:gz' if path.suffix == '.tgz' else 'w') as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def encode(labels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(labels).save(stream, 'PNG')
    return stream.getvalue()


def write_ade(source: Path) -> None:
    pairs = [('images', 'jpg'), ('annotations', 'png')]
    names = [
        f'ADEChallengeData2016/{kind}/{split}/{n}.{end}'
        for kind, end in pairs
        for split, count in (('training', 3), ('validation', 2))
        for n in range(count)
    ]
    zip_files(source / 'ADEChallengeData2016.zip', [*names, 'ADEChallengeData2016/objects.txt'])


ADE = replace(
    RELEASES['ade20k'],
    counts=dict(zip(RELEASES['ade20k'].counts, [3, 2, 3, 2], strict=True)),
)


@pytest.fixture
def source(tmp_path):
    (tmp_path / 'downloads').mkdir()
    return tmp_path / 'downloads'


def test_archives_are_unpacked_where_the_configs_look(source, tmp_path):
    write_ade(source)

    lines = list(prepare(ADE, source, tmp_path / 'data'))

    root = tmp_path / 'data/ade/ADEChallengeData2016'
    assert (root / 'annotations/training/2.png').read_text().endswith('annotations/training/2.png')
    assert lines[0] == 'ADEChallengeData2016.zip: 11 files written'
    assert f'{root} is complete' in lines[-1]


def test_a_stopped_run_continues_and_a_second_one_writes_nothing(source, tmp_path):
    write_ade(source)
    list(prepare(ADE, source, tmp_path / 'data'))
    root = tmp_path / 'data/ade/ADEChallengeData2016'
    (root / 'images/training/0.jpg').unlink()
    (root / 'images/training/1.jpg').write_text('half')
    kept = os.stat(root / 'images/training/2.jpg').st_mtime_ns

    assert next(prepare(ADE, source, tmp_path / 'data')).endswith(': 2 files written')
    assert next(prepare(ADE, source, tmp_path / 'data')).endswith(': 0 files written')
    assert os.stat(root / 'images/training/2.jpg').st_mtime_ns == kept


def test_files_that_are_in_place_need_no_archive(source, tmp_path):
    write_ade(source)
    list(prepare(ADE, source, tmp_path / 'data'))
    (source / 'ADEChallengeData2016.zip').unlink()

    (line,) = prepare(ADE, source, tmp_path / 'data')
    assert line.startswith(f'{tmp_path}/data/ade/ADEChallengeData2016 is complete: 3 images')


def test_missing_files_are_counted(source, tmp_path):
    write_ade(source)
    wanted = replace(ADE, counts={**ADE.counts, 'images/training/*.jpg': 4})

    with pytest.raises(ValueError, match=r'\*\.jpg: 3 instead of 4'):
        list(prepare(wanted, source, tmp_path / 'data'))


def test_a_missing_archive_is_named_with_its_site(source, tmp_path):
    (source / 'train2017.zip.crdownload').touch()

    with pytest.raises(ValueError, match=r'has no train2017\.zip; it holds .*crdownload') as error:
        list(prepare(RELEASES['coco'], source, tmp_path / 'data'))
    assert 'https://cocodataset.org' in str(error.value)


@pytest.mark.parametrize('kind', ['stored', 'deflated', 'gzip'])
def test_a_damaged_archive_is_named_and_leaves_no_file(kind, source, tmp_path):
    path, name = source / 'ADEChallengeData2016.zip', 'ADEChallengeData2016/a.txt'
    text = np.random.default_rng(0).bytes(5000)
    if kind == 'gzip':
        tar_files(source / 'a.tgz', {name: text})
        (source / 'a.tgz').rename(path)
    else:
        with zipfile.ZipFile(path, 'w', getattr(zipfile, f'ZIP_{kind.upper()}')) as archive:
            archive.writestr(name, text)
    content = bytearray(path.read_bytes())
    content[100:2000] = bytes(1900)
    path.write_bytes(content)

    with pytest.raises(ValueError, match=r'ADEChallengeData2016\.zip is damaged'):
        list(prepare(ADE, source, tmp_path / 'data'))
    assert not list(tmp_path.rglob('a.txt*'))


def test_members_outside_of_the_folder_are_refused(source, tmp_path):
    zip_files(source / 'ADEChallengeData2016.zip', ['../../evil.jpg'])

    with pytest.raises(ValueError, match='outside'):
        list(prepare(ADE, source, tmp_path / 'data'))
    assert not list(tmp_path.rglob('evil.jpg'))


def test_cityscapes(source, tmp_path):
    for archive, kind, end in (
        ('leftImg8bit_trainvaltest.zip', 'leftImg8bit', 'leftImg8bit'),
        ('gtFine_trainvaltest.zip', 'gtFine', 'gtFine_labelIds'),
    ):
        names = [f'{kind}/{split}/ulm/ulm_0_{end}.png' for split in ('train', 'val')]
        zip_files(source / archive, [*names, 'README'])
    release = replace(
        RELEASES['cityscapes'], counts=dict.fromkeys(RELEASES['cityscapes'].counts, 1)
    )

    list(prepare(release, source, tmp_path / 'data'))

    assert (tmp_path / 'data/cityscapes/gtFine/val/ulm/ulm_0_gtFine_labelIds.png').is_file()


def test_voc_with_the_masks_of_the_semantic_boundaries_dataset(source, tmp_path):
    root = 'VOCdevkit/VOC2012'
    files = {f'{root}/ImageSets/Segmentation/trainval.txt': b''}
    for number, (split, names) in enumerate(VOC.items()):
        files[f'{root}/ImageSets/Segmentation/{split}.txt'] = '\n'.join(names).encode()
        for name in names:
            files[f'{root}/SegmentationClass/{name}.png'] = encode(np.full((4, 6), number, 'u1'))
    for number in range(1, 6):
        files[f'{root}/JPEGImages/2007_{number}.jpg'] = b'image'
    tar_files(source / 'VOCtrainval_11-May-2012.tar', files)
    dataset = 'benchmark_RELEASE/dataset'
    more = {
        f'{dataset}/train.txt': b'2007_1\n2007_4\n',
        f'{dataset}/val.txt': b'2007_3\n2007_5\n',
        f'{dataset}/img/2007_4.jpg': b'not needed',
    }
    for number in (1, 3, 4, 5):
        stream = io.BytesIO()
        labels = np.full((4, 6), 10 + number, 'u1')
        savemat(stream, {'GTcls': {'Segmentation': labels, 'CategoriesPresent': [1]}})
        more[f'{dataset}/cls/2007_{number}.mat'] = stream.getvalue()
    tar_files(source / 'benchmark.tgz', more)
    release = replace(
        RELEASES['voc'], counts=dict(zip(RELEASES['voc'].counts, [5, 3, 1], strict=True))
    )

    list(prepare(release, source, tmp_path / 'data'))

    found = tmp_path / 'data' / root
    names = (found / 'ImageSets/Segmentation/trainaug.txt').read_text().split()
    assert names == ['2007_1', '2007_2', '2007_4', '2007_5']  # 3 is held out for validation
    masks = {
        name: np.unique(Image.open(found / f'SegmentationClassAug/{name}.png')) for name in names
    }
    assert {name: list(values) for name, values in masks.items()} == {
        '2007_1': [0],  # VOC's own mask, not that of the Semantic Boundaries Dataset
        '2007_2': [0],
        '2007_4': [14],
        '2007_5': [15],
    }
    assert not (tmp_path / 'data' / dataset / 'img').exists()
    assert next(prepare(release, source, tmp_path / 'data')).endswith(': 0 files written')
