"""Segmentation data sets that check their files before training.

The checks are part of the data set, not of the tools: `tools/train.py`, mmsegmentation's tools and
notebooks show the same messages. There are two stages:

* when the data set is built: the folders, the file endings, a mask for every image (one listing per
  folder), and the values of some masks, spread evenly (`scan_masks`);
* for every loaded sample: its label values and its size. The scan of some masks can miss the wrong
  one; this check cannot, and takes less than a millisecond.

`SegCheckHook` checks that model and data agree.
"""

import copy
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from mmengine.fileio import get_local_path, list_dir_or_file
from mmengine.logging import print_log
from mmengine.registry import DATASETS
from mmseg.datasets import ADE20KDataset, BaseSegDataset
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.structures import SegDataSample

from ..adapters.base import MIN_IMAGE_SIZE
from ..data.folder_checks import (
    LabelRule,
    check_folders,
    check_found,
    check_masks,
    check_pairing,
    check_pairs,
    describe_wrong_values,
)
from ..data.pairs import Endings, list_pairs, read_split_list
from ..data.pictures import complete_palette
from ..engine.bad_files import BadFilesMixin
from ..engine.class_names import check_names
from ..engine.load_image import color_type_of, replace_steps
from .loading import LoadMaskAnnotations

_EIGHT_BITS = 256


@DATASETS.register_module()
class CheckedSegDataset(BadFilesMixin, BaseSegDataset):
    """A folder of images and a folder of masks; classes and palette from `metainfo`.

    Accepts all arguments of mmseg's `BaseSegDataset`. In remote storage (`backend_args`, or paths
    such as `http://...`), only loaded samples are checked, and `ann_file` may be there as well.
    `ann_file` is a text file of names, with or without endings and leading folders; a second
    column names the masks.

    Args:
        scan_masks: How many masks to open when the data set is built; None opens all.
        img_suffix: How names of images end, or several such endings; None: as any image does.
        label_map: Class of each value in the mask files, or `ignore_index`, such as
            `{0: 0, 255: 1}`. With `colours`, of each position in that list.
        colours: RGB of each class, for masks with colours. Colours after those of the classes are
            pixels without a class.
        bad_files: 'error', or 'skip' to pass over files that cannot be loaded in training.
        options: Further arguments of `BaseSegDataset`.

    Raises:
        ValueError: Files are missing or wrong; the message names them and says what to do.
    """

    SOURCE: ClassVar[str] = ''

    def __init__(
        self,
        *,
        scan_masks: int | None = 64,
        img_suffix: Endings = None,
        label_map: Mapping[int, int] | None = None,
        colours: Sequence[Sequence[int]] | None = None,
        ignore_index: int = 255,
        pipeline: Any = (),
        **options: Any,
    ) -> None:
        self.scan_masks = scan_masks
        named = self._load_metainfo(copy.deepcopy(options.get('metainfo')))
        if named.get('classes') is None:
            raise ValueError(
                f'{type(self).__name__} needs the names of the classes: set '
                "metainfo=dict(classes=('...', ...), palette=[[r, g, b], ...]) in the config."
            )
        check_several(named['classes'])
        label_map = label_map or None  # a template's dict() changes nothing
        # With a choice of classes, the files still hold all original ones.
        count = len(self.METAINFO.get('classes') or named['classes'])
        reduces = bool(options.get('reduce_zero_label'))
        self.rule = LabelRule(count, ignore_index, reduces, label_map, colours)
        self.rule.check()
        load_masks = {
            'type': LoadMaskAnnotations,
            'label_map': self.rule.mapping,
            'colours': colours,
            'ignore_index': ignore_index,
        }
        super().__init__(
            img_suffix=img_suffix,
            ignore_index=ignore_index,
            pipeline=replace_steps(pipeline, {'LoadAnnotations': load_masks}),
            **options,
        )

    def _update_palette(self) -> list:
        """Return the palette; without one, clearly different colours instead of random ones."""
        if self._metainfo.get('palette'):
            return list(super()._update_palette())
        classes = self._metainfo['classes']
        return complete_palette([[0, 0, 0]] * (classes[0] == 'background'), len(classes))

    def load_data_list(self) -> list[dict]:
        """Check the folders, list the samples, and check pairs and masks."""
        images, masks = (self.data_prefix.get(key) or '' for key in ('img_path', 'seg_map_path'))
        is_remote = self.backend_args is not None or '://' in images
        pairs = self._remote_pairs(images, masks) if is_remote else self._pairs(images, masks)
        common = {'label_map': self.label_map, 'reduce_zero_label': self.reduce_zero_label}
        return [
            {'img_path': image, **common, 'seg_fields': []}
            | ({'seg_map_path': mask} if masks else {})
            for image, mask in pairs
        ]

    def _pairs(self, images: str, masks: str) -> list[tuple[str, str]]:
        rule = self.img_suffix, self.seg_map_suffix
        ending = self.img_suffix if isinstance(self.img_suffix, str) else '.*'
        folders = {images: ending, masks: self.seg_map_suffix} if masks else {images: ending}
        check_folders(self.data_root, list(folders), list(folders.values()), self.SOURCE)
        names = read_split_list(self.ann_file) if self.ann_file else None
        found = list_pairs(
            images, masks or None, img_suffix=rule[0], seg_map_suffix=rule[1], names=names
        )
        check_found(images, self.img_suffix, len(found.pairs) + len(found.images_without_mask))
        if not masks:
            return [(one, '') for one in found.images_without_mask]
        if note := check_pairing(found, (images, masks), *rule, self.ann_file):
            print_log(note, logger='current', level=logging.WARNING)
        self._check_masks(found.pairs)
        return found.pairs

    def _check_masks(self, pairs: list[tuple[str, str]]) -> None:
        labels = check_masks(
            pairs,
            self.rule,
            self.scan_masks,
            color_type=color_type_of(self),
            skip_bad=self.bad_files == 'skip',
        )
        opened_all = self.scan_masks is None or self.scan_masks >= len(pairs)
        if not opened_all or self.label_map is not None:
            return
        names = enumerate(self.metainfo['classes'], int(self.reduce_zero_label))
        if absent := [name for label, name in names if label not in labels]:
            print_log(
                f'No mask in {self.data_prefix["seg_map_path"]} holds {", ".join(absent)}: such a '
                'class is neither learnt nor measured. See whether metainfo.classes has the order '
                'of the values in the masks.',
                logger='current',
                level=logging.WARNING,
            )

    def _remote_pairs(self, images: str, masks: str) -> list[tuple[str, str]]:
        """List the samples of remote storage, where files are not looked for."""
        end, storage = self.img_suffix, {'backend_args': self.backend_args}
        if not isinstance(end, str):
            raise ValueError(
                f"img_suffix={end!r}: data on a server need one ending, such as '.jpg'."
            )
        try:
            if self.ann_file:
                with get_local_path(self.ann_file, **storage) as local:
                    names = read_split_list(local)
            else:
                listed = list_dir_or_file(images, list_dir=False, recursive=True, **storage)
                names = [(one, None) for one in sorted(listed) if one.endswith(end)]
        except (AttributeError, NotImplementedError) as error:
            raise ValueError(
                f'{images} is in storage that cannot list folders. Set ann_file to a text file '
                'with the names of the images, a line each.'
            ) from error
        pairs = []
        for name, given in names:
            stem = name.removesuffix(end)
            mask = os.path.join(masks, given or stem + self.seg_map_suffix)
            pairs.append((os.path.join(images, stem + end), mask))
        return pairs

    def prepare_data(self, idx: int) -> Any:
        """Load and transform sample `idx`, and check the result."""
        sample = super().prepare_data(idx)
        if sample is not None:
            self.check_loaded(sample)
        return sample

    def check_loaded(self, sample: dict) -> None:
        """Raise `ValueError` if a packed sample has wrong labels or is too small."""
        truth, image = sample.get('data_samples'), sample.get('inputs')
        # Test-time augmentation returns lists; their masks are those of plain evaluation.
        if not isinstance(truth, SegDataSample) or not isinstance(image, torch.Tensor):
            return
        height, width = image.shape[-2:]
        if min(height, width) < MIN_IMAGE_SIZE:
            raise ValueError(
                f'The image {truth.img_path} reaches the model with {height}x{width} pixels; at '
                f'least {MIN_IMAGE_SIZE}x{MIN_IMAGE_SIZE} are needed. Remove it from the data set, '
                'or enlarge images in the pipeline (Resize, RandomResize).'
            )
        if 'gt_sem_seg' not in truth:
            return
        labels = truth.gt_sem_seg.data
        wrong = labels[(labels >= len(self.metainfo['classes'])) & (labels != self.ignore_index)]
        if wrong.numel():
            # The values before loading has reduced them by one.
            values = [int(value) + int(self.reduce_zero_label) for value in wrong.unique()]
            raise ValueError(describe_wrong_values(truth.seg_map_path, values, label_rule(self)))


@DATASETS.register_module()
class CheckedADE20KDataset(CheckedSegDataset):
    """ADE20K, scene parsing challenge: 150 classes; label 0 is "other" and ignored."""

    METAINFO: ClassVar[dict] = ADE20KDataset.METAINFO
    SOURCE: ClassVar[str] = (
        'ADE20K comes from the MIT Scene Parsing Challenge 2016: download '
        'ADEChallengeData2016.zip (about 1 GB) from http://sceneparsing.csail.mit.edu, accept its '
        'terms of use, and unpack it into data/ade.'
    )

    def __init__(
        self, *, reduce_zero_label: bool = True, img_suffix: Endings = '.jpg', **options: Any
    ) -> None:
        super().__init__(reduce_zero_label=reduce_zero_label, img_suffix=img_suffix, **options)


def label_rule(dataset: BaseSegDataset) -> LabelRule:
    """Return which values the mask files of `dataset` may hold."""
    if isinstance(dataset, CheckedSegDataset):
        return dataset.rule
    # With a choice of classes, the files still hold all original ones.
    names = dataset.label_map or dataset.metainfo['classes']
    return LabelRule(len(names), dataset.ignore_index, dataset.reduce_zero_label)


def check_several(classes: Sequence[str] | None) -> None:
    """Raise `ValueError` if there is one class, from which nothing can be told apart."""
    check_names(classes)
    if classes is not None and len(classes) == 1:
        raise ValueError(
            f'metainfo.classes={tuple(classes)!r}: with one class, every pixel is right. Name the '
            f"rest, too: classes=('background', {classes[0]!r}), num_classes=2 in every head, 0 "
            'and 1 in the masks. For one channel see "Two classes" in docs/heads.md.'
        )


def check_samples(dataset: BaseSegDataset, samples: list[dict], limit: int | None) -> None:
    """Check that all `samples` have masks and that up to `limit` masks fit the classes.

    For data sets of mmseg's own classes, whose transforms read 8 bits alone.
    """
    pairs = [(one['img_path'], one['seg_map_path']) for one in samples if 'seg_map_path' in one]
    check_pairs(pairs)
    if dataset.metainfo.get('classes') is None:
        return
    rule = label_rule(dataset)
    steps = getattr(dataset.pipeline, 'transforms', ())
    if rule.num_labels > _EIGHT_BITS and any(type(step) is LoadAnnotations for step in steps):
        raise ValueError(
            f'{type(dataset).__name__} has {rule.num_labels} classes, and LoadAnnotations reads 8 '
            "bits: set type='CheckedSegDataset', which reads 16, and ignore_index=65535."
        )
    check_masks(pairs, rule, limit, color_type=color_type_of(dataset))
