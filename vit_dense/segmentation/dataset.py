"""Segmentation data sets that check their files before training.

The checks are part of the data set, not of the tools: `tools/train.py`, mmsegmentation's tools and
notebooks show the same messages. There are two stages:

* when the data set is built: the folders, the file endings, a mask for every image (one listing per
  folder), and the values of some masks, spread evenly (`scan_masks`);
* for every loaded sample: its label values and its size. The scan of some masks can miss the wrong
  one; this check cannot, and takes less than a millisecond.

`SegCheckHook` checks that model and data agree.
"""

from typing import Any, ClassVar

import torch
from mmengine.fileio import get_local_path
from mmengine.registry import DATASETS
from mmseg.datasets import ADE20KDataset, BaseSegDataset
from mmseg.structures import SegDataSample

from ..adapters.base import MIN_IMAGE_SIZE
from ..data.folder_checks import (
    LabelRule,
    check_folders,
    check_found,
    check_masks,
    check_pairs,
    describe_wrong_values,
)


@DATASETS.register_module()
class CheckedSegDataset(BaseSegDataset):
    """A folder of images and a folder of masks; classes and palette from `metainfo`.

    Accepts all arguments of mmseg's `BaseSegDataset`. In remote storage (`backend_args`, or paths
    such as `http://...`), only loaded samples are checked, and `ann_file` may be there as well.

    Args:
        scan_masks: How many masks to open when the data set is built; None opens all.
        options: Arguments of `BaseSegDataset`.

    Raises:
        ValueError: Files are missing or wrong; the message names them and says what to do.
    """

    SOURCE: ClassVar[str] = ''

    def __init__(self, *, scan_masks: int | None = 64, **options: Any) -> None:
        self.scan_masks = scan_masks
        named = {**self.METAINFO, **(options.get('metainfo') or {})}
        if named.get('classes') is None:
            raise ValueError(
                f'{type(self).__name__} needs the names of the classes: set '
                "metainfo=dict(classes=('...', ...), palette=[[r, g, b], ...]) in the config."
            )
        super().__init__(**options)

    def load_data_list(self) -> list[dict]:
        """Check the folders, list the samples, and check pairs and masks."""
        if self.backend_args is not None or '://' in self.data_prefix['img_path']:
            return self._load_remote_list()
        prefixes = {'img_path': self.img_suffix, 'seg_map_path': self.seg_map_suffix}
        folders = {self.data_prefix[key]: end for key, end in prefixes.items() if self._has(key)}
        check_folders(self.data_root, list(folders), list(folders.values()), self.SOURCE)
        samples = list(super().load_data_list())
        check_found(self.data_prefix['img_path'], self.img_suffix, len(samples))
        check_samples(self, samples, self.scan_masks)
        return samples

    def _load_remote_list(self) -> list[dict]:
        """List the samples; mmseg reads a list of names from the local disk only."""
        if not self.ann_file:
            try:
                return list(super().load_data_list())
            except (AttributeError, NotImplementedError) as error:
                raise ValueError(
                    f'{self.data_prefix["img_path"]} is in storage that cannot list folders. Set '
                    'ann_file to a text file with the names of the images, a line each, without '
                    f'{self.img_suffix!r}.'
                ) from error
        own: dict[str, Any] = self.__dict__
        remote = {name: own[name] for name in ('ann_file', 'backend_args')}
        with get_local_path(own['ann_file'], backend_args=own['backend_args']) as local:
            own.update(ann_file=str(local), backend_args=None)
            try:
                return list(super().load_data_list())
            finally:
                own.update(remote)

    def prepare_data(self, idx: int) -> Any:
        """Load and transform sample `idx`, and check the result."""
        sample = super().prepare_data(idx)
        if sample is not None:
            self._check_loaded(sample)
        return sample

    def _has(self, key: str) -> bool:
        return bool(self.data_prefix.get(key))

    def _check_loaded(self, sample: dict) -> None:
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
        if labels.dim() != 3 or labels.shape[0] != 1:
            raise ValueError(
                f'The mask {truth.seg_map_path} loads as {tuple(labels.shape)} instead of one '
                'class index per pixel: convert colours to indices first.'
            )
        wrong = labels[(labels >= len(self.metainfo['classes'])) & (labels != self.ignore_index)]
        if wrong.numel():
            # The values in the file: loading has reduced them by one.
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

    def __init__(self, *, reduce_zero_label: bool = True, **options: Any) -> None:
        super().__init__(reduce_zero_label=reduce_zero_label, **options)


def label_rule(dataset: BaseSegDataset) -> LabelRule:
    """Return which values the mask files of `dataset` may hold."""
    # With a choice of classes, the files still hold all original ones.
    names = dataset.label_map or dataset.metainfo['classes']
    return LabelRule(len(names), dataset.ignore_index, dataset.reduce_zero_label)


def check_samples(dataset: BaseSegDataset, samples: list[dict], limit: int | None) -> None:
    """Check that all `samples` have masks and that up to `limit` masks fit the classes."""
    pairs = [(one['img_path'], one['seg_map_path']) for one in samples if 'seg_map_path' in one]
    check_pairs(pairs)
    if dataset.metainfo.get('classes') is not None:
        check_masks(pairs, label_rule(dataset), limit)
