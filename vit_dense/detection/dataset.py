"""COCO-format data sets that check their files before training.

As in segmentation, the checks are part of the data set: every tool shows the same messages. When
the data set is built, it checks the structure of the annotation file, its categories against the
classes, its boxes, and the images (all listed, some opened). `DetCheckHook` checks that model, data
and metric agree.
"""

import os
from typing import Any

from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS

from ..data.coco_checks import (
    check_categories,
    check_has_masks,
    check_images,
    describe_bad_boxes,
    read_annotations,
)

_COCO_NAMES = CocoDataset.METAINFO['classes']
_SOURCE = (
    'COCO 2017 comes from https://cocodataset.org/#download: unpack train2017.zip, val2017.zip and '
    'annotations_trainval2017.zip into data/coco.'
)
_BAD_BOXES = ('error', 'skip')
_OTHER_CATEGORIES = ('error', 'ignore')


@DATASETS.register_module()
class CheckedCocoDataset(CocoDataset):
    """Boxes and optional masks in COCO's format; classes from `metainfo`.

    Accepts all arguments of mmdet's `CocoDataset`. In remote storage (`backend_args`, or paths such
    as `http://...`), the annotation file is checked and images are not. `metainfo.classes` names
    the file's categories, in the file's order; without it the classes are the 80 of COCO.

    Args:
        bad_boxes: What to do about boxes without area or outside their image: 'error', or 'skip'
            to warn and leave out those that have no area inside it, as mmdet does silently.
        other_categories: What to do about annotations of categories that `classes` does not name:
            'error' or 'ignore'.
        scan_images: How many images to open when the data set is built; None opens all.
        options: Arguments of `CocoDataset`.

    Raises:
        ValueError: Files are missing or wrong; the message names them and says what to do.
    """

    def __init__(
        self,
        *,
        bad_boxes: str = 'error',
        other_categories: str = 'error',
        scan_images: int | None = 64,
        **options: Any,
    ) -> None:
        _require('bad_boxes', bad_boxes, _BAD_BOXES)
        _require('other_categories', other_categories, _OTHER_CATEGORIES)
        self.bad_boxes = bad_boxes
        self.other_categories = other_categories
        self.scan_images = scan_images
        classes = (options.get('metainfo') or {}).get('classes')
        if isinstance(classes, str) and not os.path.isfile(classes):
            raise ValueError(
                f'metainfo.classes={classes!r} is neither a file of names nor a tuple: for one '
                "class write classes=('name',), with the comma."
            )
        super().__init__(**options)

    def COCOAPI(self, path: str) -> COCO:  # noqa: N802 - mmdet's name of the reader
        """Read and check the annotation file."""
        content = read_annotations(
            path,
            image_folder=self.data_prefix.get('img', ''),
            data_root=self.data_root,
            source=_SOURCE if self.metainfo['classes'] == _COCO_NAMES else '',
            annotated=not self.test_mode,
        )
        # A remote file was downloaded, and messages give its address.
        self._check(self.ann_file, content)
        coco = COCO()
        coco.dataset = content
        coco.createIndex()
        coco.img_ann_map, coco.cat_img_map = coco.imgToAnns, coco.catToImgs
        return coco

    def filter_data(self) -> list[dict]:
        """Filter as mmdet does; raise `ValueError` if no image is left."""
        kept = super().filter_data()
        if self.data_list and not kept:
            least = (self.filter_cfg or {}).get('min_size', 0)
            small = sum(min(one['width'], one['height']) < least for one in self.data_list)
            bare = sum(not one['instances'] for one in self.data_list)
            raise ValueError(
                f'{self.ann_file}: none of its {len(self.data_list)} images passes filter_cfg='
                f'{dict(self.filter_cfg)}: {small} have a side under {least} px, {bare} have no '
                'annotation of the classes. Change filter_cfg or classes, or annotate the images.'
            )
        return kept

    def _check(self, path: str, content: dict[str, Any]) -> None:
        ignores = self.other_categories == 'ignore'
        check_categories(path, content, self.metainfo['classes'], allow_others=ignores)
        images = self.data_prefix.get('img', '')
        if self.backend_args is None and '://' not in images:
            check_images(path, content, images, limit=self.scan_images)
        if not content.get('annotations'):
            return
        message = describe_bad_boxes(path, content, self.metainfo['classes'])
        if message is not None and self.bad_boxes == 'error':
            raise ValueError(message)
        if message is not None:
            MMLogger.get_current_instance().warning(
                f'{message}\nThose without area inside their image are left out.'
            )
        if any(getattr(step, 'with_mask', False) for step in self.pipeline.transforms):
            check_has_masks(path, content)


def _require(name: str, given: str, allowed: tuple[str, ...]) -> None:
    if given not in allowed:
        raise ValueError(f'{name}={given!r}: allowed are {", ".join(map(repr, allowed))}.')
