"""Load masks of any encoding, in the place of mmseg's `LoadAnnotations`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.registry import TRANSFORMS
from mmseg.datasets.transforms import LoadAnnotations

from ..data.folder_checks import check_size
from ..data.masks import decode_mask, read_mask
from ..engine.load_image import read_content

_LOADED_VOID = 255  # as mmseg writes for label 0, and for classes that are not chosen


@TRANSFORMS.register_module()
class LoadMaskAnnotations(LoadAnnotations):
    """Load a mask of 1 to 16 bits, with indices, a palette or colours, as class indices.

    `CheckedSegDataset` puts it in the place of `LoadAnnotations`, with its own `label_map`,
    `colours` and `ignore_index`.

    Args:
        label_map: Class or `ignore_index` of each value in the file; with `colours`, of each
            position in that list. None: values are the classes.
        colours: RGB of each class. None: the mask holds indices.
        ignore_index: Value of pixels that belong to no class.
        options: Arguments of `LoadAnnotations`; `imdecode_backend` has no effect.

    Raises:
        BadFileError: The mask is missing, empty or damaged.
        ValueError: It holds values or colours that are not listed, or differs in size from its
            image.
    """

    def __init__(
        self,
        *,
        label_map: Mapping[int, int] | None = None,
        colours: Sequence[Sequence[int]] | None = None,
        ignore_index: int = 255,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.label_map = label_map
        self.colours = colours
        self.ignore_index = ignore_index

    def _load_seg_map(self, results: dict) -> None:
        path = results['seg_map_path']
        content = read_content(path, self.backend_args)
        values = read_mask(path, content=content, as_colours=self.colours is not None)
        if 'ori_shape' in results:
            image = results.get('img_path', 'of this sample')
            check_size(path, values.shape[:2], image, results['ori_shape'][:2])
        labels = decode_mask(
            values,
            label_map=self.label_map,
            colours=self.colours,
            ignore_index=self.ignore_index,
            name=f'The mask {path}',
        )
        reduce = results['reduce_zero_label']
        if self.reduce_zero_label not in (None, reduce):
            raise ValueError(
                f'LoadAnnotations has reduce_zero_label={self.reduce_zero_label}, its data set '
                f'{reduce}: set it in the data set alone.'
            )
        if reduce:
            is_void = (labels == 0) | (labels == _LOADED_VOID)
            labels = np.where(is_void, _LOADED_VOID, labels - 1).astype(labels.dtype)
        if results.get('label_map') is not None:  # a choice of the classes of the data set
            original, labels = labels, labels.copy()
            for old, new in results['label_map'].items():
                labels[original == old] = new
        results['gt_seg_map'] = np.require(labels, requirements='W')
        results['seg_fields'].append('gt_seg_map')
