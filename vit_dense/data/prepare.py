"""Unpack public data sets as their sites deliver them, and verify the number of files.

Files are written under another name first and renamed when they are complete; those that are there
in full are passed over, so a stopped run continues where it was.
"""

import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from gzip import BadGzipFile
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
from PIL import Image

__all__ = ['RELEASES', 'Release', 'prepare']


@dataclass(frozen=True)
class Release:
    """A data set as its site delivers it.

    Attributes:
        site: Where the archives come from.
        folder: The folder below `data` that the archives are unpacked in.
        root: The `data_root` of the configs, below `folder`.
        archives: File names of the archives.
        counts: Number of files of each pattern below `root`.
        optional: An archive that may be absent.
        unused: Pattern of members that are not unpacked.
        finish: Derives further files below `root` from `folder`, and says what it did.
    """

    site: str
    folder: str
    root: str
    archives: tuple[str, ...]
    counts: Mapping[str, int]
    optional: str = ''
    unused: str = ''
    finish: Callable[[Path, Path], Iterator[str]] | None = None


def prepare(release: Release, source: Path, out: Path) -> Iterator[str]:
    """Unpack and verify a data set, and yield a line about each step.

    Args:
        release: One of `RELEASES`.
        source: The folder with the archives; they may be absent if all files are in `out`.
        out: The folder of all data sets, `data` for the configs.

    Raises:
        ValueError: Archives are missing or damaged, or files are missing after unpacking.
    """
    if not source.is_dir():
        raise ValueError(f'--source {source}: this is no folder. Give the one with the archives.')
    folder = out / release.folder
    root = folder / release.root
    for name in release.archives:
        if (source / name).is_file():
            yield f'{name}: {_unpack(source / name, release.unused, folder)} files written'
        elif name != release.optional and _wrong_counts(release, root):
            there = sorted(one.name for one in source.iterdir())[:5]
            raise ValueError(
                f'{source} has no {name}; it holds {", ".join(there) or "nothing"}.\n'
                f'The archives are {", ".join(release.archives)}, from {release.site}.'
            )
    if wrong := _wrong_counts(release, root):
        raise ValueError(
            '\n'.join(['The number of files is wrong:', *wrong])
            + f'\nAn archive is incomplete or of another release: get it again from {release.site}.'
        )
    if release.finish is not None:
        yield from release.finish(folder, root)
    yield f'{root} is complete: ' + ', '.join(f'{n} {glob}' for glob, n in release.counts.items())


def _wrong_counts(release: Release, root: Path) -> list[str]:
    found = {glob: sum(1 for _ in root.glob(glob)) for glob in release.counts}
    return [
        f'  {root / glob}: {found[glob]} instead of {wanted}'
        for glob, wanted in release.counts.items()
        if found[glob] != wanted
    ]


def _unpack(archive: Path, unused: str, folder: Path) -> int:
    """Write the members that are not there in full, and return their number."""
    written = 0
    try:
        for name, size, read in _members(archive):
            path = PurePosixPath(name)
            if path.is_absolute() or '..' in path.parts:
                raise ValueError(f'{archive}: {name} would be written outside of {folder}.')
            target = folder / path
            is_there = target.is_file() and target.stat().st_size == size
            if not is_there and not fnmatch(name, unused) and (stream := read()) is not None:
                _write(target, stream.read())
                written += 1
    except (zipfile.BadZipFile, tarfile.TarError, BadGzipFile, zlib.error, EOFError) as error:
        raise ValueError(f'{archive} is damaged ({error}). Download it again.') from error
    return written


def _members(archive: Path) -> Iterator[tuple[str, int, Callable[[], IO[bytes] | None]]]:
    """Yield name and size of each file, and a function that opens it."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for one in opened.infolist():
                if not one.is_dir():
                    yield one.filename, one.file_size, partial(opened.open, one)
        return
    with tarfile.open(archive) as packed:
        for entry in packed:
            if entry.isfile():
                yield entry.name, entry.size, partial(packed.extractfile, entry)


def _write(target: Path, content: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + '.part')
    part.write_bytes(content)
    os.replace(part, target)


def _augment_voc(folder: Path, root: Path) -> Iterator[str]:
    """Write the masks of the Semantic Boundaries Dataset and the list `trainaug.txt`.

    Its images are those of both its lists and of VOC's training list, without VOC's validation
    list: 10 582. Where VOC has a mask, that is taken.
    """
    boundaries = folder / 'benchmark_RELEASE' / 'dataset'
    if not boundaries.is_dir():
        yield 'benchmark.tgz is absent: no list trainaug.txt is written'
        return
    from scipy.io import loadmat

    lists = root / 'ImageSets' / 'Segmentation'
    paths = [boundaries / 'train.txt', boundaries / 'val.txt', lists / 'train.txt']
    held_out, *used = (set(one.read_text().split()) for one in (lists / 'val.txt', *paths))
    names = sorted(set().union(*used) - held_out)
    for name in names:
        target = root / 'SegmentationClassAug' / f'{name}.png'
        own = root / 'SegmentationClass' / f'{name}.png'
        if not target.is_file() and own.is_file():
            _write(target, own.read_bytes())
        elif not target.is_file():
            found = loadmat(boundaries / 'cls' / f'{name}.mat', simplify_cells=True)
            stream = BytesIO()
            labels = np.asarray(found['GTcls']['Segmentation'], np.uint8)
            Image.fromarray(labels).save(stream, 'PNG')
            _write(target, stream.getvalue())
    _write(lists / 'trainaug.txt', ''.join(f'{name}\n' for name in names).encode())
    yield f'{lists / "trainaug.txt"}: {len(names)} images'


RELEASES = {
    'ade20k': Release(
        site='http://sceneparsing.csail.mit.edu',
        folder='ade',
        root='ADEChallengeData2016',
        archives=('ADEChallengeData2016.zip',),
        counts={
            'images/training/*.jpg': 20210,
            'images/validation/*.jpg': 2000,
            'annotations/training/*.png': 20210,
            'annotations/validation/*.png': 2000,
        },
    ),
    'coco': Release(
        site='https://cocodataset.org/#download',
        folder='coco',
        root='.',
        archives=('train2017.zip', 'val2017.zip', 'annotations_trainval2017.zip'),
        counts={
            'train2017/*.jpg': 118287,
            'val2017/*.jpg': 5000,
            'annotations/instances_*2017.json': 2,
        },
    ),
    'voc': Release(
        site='http://host.robots.ox.ac.uk/pascal/VOC/voc2012 (benchmark.tgz: the Semantic '
        'Boundaries Dataset of Hariharan et al. 2011)',
        folder='.',
        root='VOCdevkit/VOC2012',
        archives=('VOCtrainval_11-May-2012.tar', 'benchmark.tgz'),
        optional='benchmark.tgz',
        unused='benchmark_RELEASE/dataset/i*',  # its images are those of VOC
        counts={
            'JPEGImages/*.jpg': 17125,
            'SegmentationClass/*.png': 2913,
            'ImageSets/Segmentation/trainval.txt': 1,
        },
        finish=_augment_voc,
    ),
    'cityscapes': Release(
        site='https://www.cityscapes-dataset.com/downloads',
        folder='cityscapes',
        root='.',
        archives=('leftImg8bit_trainvaltest.zip', 'gtFine_trainvaltest.zip'),
        counts={
            'leftImg8bit/train/*/*_leftImg8bit.png': 2975,
            'leftImg8bit/val/*/*_leftImg8bit.png': 500,
            'gtFine/train/*/*_gtFine_labelIds.png': 2975,
            'gtFine/val/*/*_gtFine_labelIds.png': 500,
        },
    ),
}
