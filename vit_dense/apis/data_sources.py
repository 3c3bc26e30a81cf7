"""List the files of the data sets of a config, without the checks that stop at the first error."""

import contextlib
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from ..data.coco_boxes import find_bad_boxes, find_repeated, used_annotations
from ..data.coco_checks import check_categories, read_annotations
from ..data.findings import ERROR, NOTE, WARNING, Box, Example, Results, Split
from ..data.pairs import list_pairs, read_split_list
from ..data.scan import Array
from ..pretraining.dataset import LabelledImages, UnlabelledImages
from .config import innermost_datasets, require_one_task

_REMOVED = 255  # what mmseg's loading writes for labels that it removes


@dataclass
class Source:
    """One data set of a config, built without its list, and the split that it becomes."""

    dataset: Any
    split: Split
    folder: str
    images: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)
    error: str = ''  # why they cannot be listed

    def load(self, path: str) -> Array:
        """Read an image as the pipeline does."""
        image: Array = self.dataset.pipeline.transforms[0]({'img_path': path})['img']
        return image

    def read(self, path: str) -> Array:
        """Read the labels of a mask as the pipeline does."""
        sample = {'seg_map_path': path, 'seg_fields': []}
        for name in ('label_map', 'reduce_zero_label'):
            sample[name] = getattr(self.dataset, name)
        steps = self.dataset.pipeline.transforms
        loader = next(one for one in steps if hasattr(one, '_load_seg_map'))
        labels: Array = loader.transform(sample)['gt_seg_map']
        return labels

    def refusals(self) -> Results:
        """Yield the error with which the data set refuses its files, if it does."""
        try:
            with contextlib.redirect_stdout(sys.stderr):  # pycocotools prints
                self.dataset.full_init()
        except (ValueError, AssertionError, OSError) as error:
            self.error = str(error)
        if self.error:
            name = type(self.dataset).__name__
            yield ERROR, f'data sets are refused by {name}', [(self.folder, '')], self.error


def open_sources(config: Config, names: Sequence[str]) -> list[Source]:
    """List the files of the splits `names`; a test split with the files of another is left out.

    Raises:
        ValueError: The config has none of the splits.
    """
    require_one_task(config)
    init_default_scope(config.get('default_scope', 'mmengine'))
    sources: list[Source] = []
    listed: list[Any] = []
    for name in names:
        loader = config.get(f'{name}_dataloader') or {}
        for part in innermost_datasets(loader['dataset']) if 'dataset' in loader else ():
            source = _open(part, name)
            files = source.images, source.folder, source.dataset.ann_file
            if name != 'test' or files not in listed:
                sources.append(source)
                listed.append(files)
    if not sources:
        raise ValueError(f'The config has no data for --split {" ".join(names)}. Name another.')
    return sources


def _open(part: Any, name: str) -> Source:
    dataset: Any = DATASETS.build({**part, 'lazy_init': True})
    classes = list(dataset.metainfo.get('classes') or ())
    split = Split(name, classes, scale=_scale(part.get('pipeline') or ()))
    prefix = dataset.data_prefix
    source = Source(dataset, split, prefix.get('img_path') or prefix.get('img') or '')
    try:
        if hasattr(dataset, 'reduce_zero_label'):
            split.ignored = {dataset.ignore_index}
            if dataset.label_map is not None or dataset.reduce_zero_label:
                split.ignored.add(_REMOVED)
            split.add(_list_pairs(source))
        elif hasattr(dataset, 'COCOAPI'):
            split.add(_list_boxes(source))
        elif isinstance(dataset, UnlabelledImages | LabelledImages):
            source.images = [one['img_path'] for one in dataset.load_data_list()]
        else:
            advice = 'Use CheckedCocoDataset, which reads COCO, VOC, YOLO and labelme files.'
            problem = f'files of {type(dataset).__name__} are not checked'
            split.add([(WARNING, problem, [(source.folder, '')], advice)])
    except ValueError as error:
        source.error = str(error)
    return source


def _scale(steps: Any) -> tuple[int, int] | None:
    """Return the scale of the first step of a pipeline that resizes; of several, the middle one."""
    for step in steps:
        scales = isinstance(step, dict) and (step.get('scale') or step.get('scales'))
        if scales and not isinstance(scales[0], float):  # shares of RandomResizedCrop
            one = scales if isinstance(scales[0], int) else scales[len(scales) // 2]
            return one[0], one[1]
        inner = step if isinstance(step, list | tuple) else step.get('transforms') or ()
        if (found := _scale(inner)) is not None:
            return found
    return None


def _list_pairs(source: Source) -> Results:
    dataset, masks = source.dataset, source.dataset.data_prefix.get('seg_map_path') or None
    suffixes = {name: getattr(dataset, name) for name in ('img_suffix', 'seg_map_suffix')}
    names = read_split_list(dataset.ann_file) if os.path.isfile(dataset.ann_file) else None
    found = list_pairs(source.folder, masks, names=names, **suffixes)
    if any(hasattr(step, '_load_seg_map') for step in dataset.pipeline.transforms):
        source.masks = [mask for _, mask in found.pairs]
    source.images = [one for one, _ in found.pairs] if masks else found.images_without_mask
    given = ', '.join(f'{name}={value!r}' for name, value in suffixes.items())
    rule = f'A mask has the name of its image, now with {given}: correct these or the files.'
    for level, problem, files, advice in (
        (ERROR, 'images have no mask', found.images_without_mask if masks else (), rule),
        (WARNING, 'masks have no image', found.masks_without_image, rule),
        (WARNING, 'images are passed over', found.other_images, f'Change img_suffix. Now {given}.'),
        (ERROR, 'listed names have no image', found.names_without_image, 'Correct ann_file.'),
    ):
        yield level, problem, [(path, '') for path in files], advice


def _list_boxes(source: Source) -> Results:
    dataset, split = source.dataset, source.split
    files = getattr(dataset, 'ann_files', dataset.ann_file)
    content, notes = read_annotations(
        files,
        image_folder=source.folder,
        data_root=dataset.data_root,
        source='',
        annotated=not dataset.test_mode,
        classes=split.classes,
        image_list=getattr(dataset, 'image_list', None),
    )
    yield NOTE, 'annotations were repaired', [(one, '') for one in notes], 'Nothing is to be done.'
    allows_others = getattr(dataset, 'other_categories', 'ignore') == 'ignore'
    check_categories(str(files), content, split.classes, allow_others=allows_others)
    labels = {one['id']: one['name'] for one in content['categories']}
    places = {one['id']: place for place, one in enumerate(content['images'])}
    source.images = [os.path.join(source.folder, one['file_name']) for one in content['images']]
    split.sizes = [(one['width'], one['height']) for one in content['images']]
    used = used_annotations(content, split.classes)
    split.boxes = [
        Box(places[one['image_id']], split.classes.index(labels[one['category_id']]), one['bbox'])
        for one in used
        if not one.get('iscrowd')
    ]

    def examples(bad: Iterable[tuple[Any, Any]]) -> list[Example]:
        return [
            (source.images[places[one['image_id']]], f'annotation {one["id"]}, bbox={one["bbox"]}')
            for one, _ in bad
        ]

    level = ERROR if getattr(dataset, 'bad_boxes', 'skip') == 'error' else WARNING
    advice = "Boxes are [x, y, width, height] in pixels: correct them, or set bad_boxes='skip'."
    for problem, bad in find_bad_boxes(content, split.classes).items():
        yield level, f'boxes are {problem}', examples(bad), advice
    repeated = examples(find_repeated(used))
    yield WARNING, 'boxes are given more than once', repeated, 'Remove the copies.'
