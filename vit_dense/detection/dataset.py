"""COCO-format data sets that check their files before training.

As in segmentation, the checks are part of the data set: every tool shows the same messages. When
the data set is built, it checks the structure of the annotation file, its categories against the
classes, its boxes, and the images (all listed, some opened). `DetCheckHook` checks that model, data
and metric agree.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmengine.fileio import get_local_path, join_path
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS
from mmengine.utils import is_abs

from ..data.coco_boxes import check_box_values, describe_bad_boxes
from ..data.coco_checks import check_categories, read_annotations
from ..data.coco_images import check_images
from ..data.coco_masks import check_masks
from ..engine.bad_files import BadFilesMixin
from ..engine.class_names import check_names
from ..engine.load_image import color_type_of

_COCO_NAMES = CocoDataset.METAINFO['classes']
_SOURCE = (
    'COCO 2017 comes from https://cocodataset.org/#download: unpack train2017.zip, val2017.zip and '
    'annotations_trainval2017.zip into data/coco.'
)
_BAD_BOXES = ('error', 'skip')
_OTHER_CATEGORIES = ('error', 'ignore')


@DATASETS.register_module()
class CheckedCocoDataset(BadFilesMixin, CocoDataset):
    """Boxes and optional masks in COCO's and other formats; classes from `metainfo`.

    Accepts all arguments of mmdet's `CocoDataset`. In remote storage (`backend_args`, or paths such
    as `http://...`), the annotation file is checked and images are not. `metainfo.classes` names
    the file's categories, in the file's order; without it the classes are the 80 of COCO.

    Args:
        ann_file: A COCO file, a folder of PASCAL VOC, YOLO or labelme files, or a list of several;
            see `vit_dense.data.annotations.read_boxes`.
        image_list: A text file that names the images to use, as part of `data_root`; '' for all.
        bad_boxes: What to do about boxes without area or outside their image: 'error', or 'skip'
            to warn and leave out those that have no area inside it, as mmdet does silently.
        other_categories: What to do about annotations of categories that `classes` does not name:
            'error' or 'ignore'.
        bad_files: What to do about images that cannot be loaded: 'error', or 'skip' to leave them
            out of the training; in validation and test they are an error.
        scan_images: How many images to open when the data set is built; None opens all.
        options: Arguments of `CocoDataset`.

    Raises:
        ValueError: Files are missing or wrong; the message names them and says what to do.
    """

    def __init__(
        self,
        *,
        ann_file: str | Sequence[str] = '',
        image_list: str = '',
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
        self.image_list = image_list
        check_names(self._load_metainfo(options.get('metainfo')).get('classes'))
        self.ann_files = [ann_file] if isinstance(ann_file, str) else list(ann_file)
        super().__init__(ann_file=self.ann_files[0] if self.ann_files else '', **options)

    def COCOAPI(self, _: str) -> COCO:  # noqa: N802 - mmdet's name of the reader
        """Read and check the annotations."""
        content, notes = self._read()
        # A remote file was downloaded, and messages give its address.
        self._check(', '.join(self.ann_files), content)
        for note in notes:
            log_once(note)
        return index_coco(content)

    def load_truth(self) -> COCO:
        """Read the annotations of the data set's images again, for a metric."""
        content, _ = self._read()
        ids = {self.get_data_info(index)['img_id'] for index in range(len(self))}
        content['images'] = [one for one in content['images'] if one['id'] in ids]
        known = content.get('annotations', ())
        content['annotations'] = [one for one in known if one['image_id'] in ids]
        return index_coco(content)

    def _read(self) -> tuple[dict[str, Any], list[str]]:
        with local_files(self.ann_files, self.backend_args) as paths:
            return read_annotations(
                paths,
                image_folder=self.data_prefix.get('img', ''),
                data_root=self.data_root,
                source=_SOURCE if self.metainfo['classes'] == _COCO_NAMES else '',
                annotated=not self.test_mode,
                classes=self.metainfo['classes'],
                image_list=self.image_list,
            )

    def _join_prefix(self) -> None:
        super()._join_prefix()

        def join(path: str) -> str:
            outside = not path or not self.data_root or is_abs(path)
            return path if outside else join_path(self.data_root, path)

        self.ann_files = [join(one) for one in self.ann_files]
        self.image_list = join(self.image_list)

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
            skips = self.bad_files == 'skip' and not self.test_mode
            check_images(
                path,
                content,
                images,
                limit=self.scan_images,
                color_type=color_type_of(self),
                skip_damaged=skips,
            )
        if not content.get('annotations'):
            return
        logger, classes = MMLogger.get_current_instance(), self.metainfo['classes']
        if note := check_box_values(path, content, classes):
            logger.warning(note)
        message = describe_bad_boxes(path, content, classes)
        if message is not None and self.bad_boxes == 'error':
            raise ValueError(message)
        if message is not None:
            logger.warning(f'{message}\nThose without area inside their image are left out.')
        with_mask = any(getattr(step, 'with_mask', False) for step in self.pipeline.transforms)
        if with_mask and (note := check_masks(path, content, classes)):
            logger.warning(note)


@contextmanager
def local_files(paths: Sequence[str], backend_args: dict | None) -> Iterator[list[str]]:
    """Download what is in remote storage, for as long as the context is open."""
    with ExitStack() as stack:
        yield [stack.enter_context(get_local_path(one, backend_args=backend_args)) for one in paths]


@cache
def log_once(note: str) -> None:
    """Log what was repaired; training and validation often read one file."""
    MMLogger.get_current_instance().warning(note)


def index_coco(content: dict[str, Any]) -> COCO:
    """Return the content of a COCO file with the look-ups of mmdet's class."""
    coco = COCO()
    coco.dataset = content
    coco.createIndex()
    coco.img_ann_map, coco.cat_img_map = coco.imgToAnns, coco.catToImgs
    return coco


def _require(name: str, given: str, allowed: tuple[str, ...]) -> None:
    if given not in allowed:
        raise ValueError(f'{name}={given!r}: allowed are {", ".join(map(repr, allowed))}.')
