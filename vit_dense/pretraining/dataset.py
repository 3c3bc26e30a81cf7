"""Images without labels for pretraining, and images with masks for the probe of its features."""

import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from mmengine.registry import DATASETS
from PIL import Image

from ..data.folder_checks import check_folders, check_found, check_pairing
from ..data.pairs import Endings, list_files, list_pairs, stem_of
from ..engine.bad_files import BadFilesMixin

_COMPARED = 8  # names that several files have


@DATASETS.register_module()
class UnlabelledImages(BadFilesMixin, BaseDataset):
    """All images in one folder or several, and in their subfolders.

    Args:
        data_root: The folder, or a list of folders. Masks are images, too: name no folder that
            holds them. Files of one name that differ in format or mode are reported.
        img_suffix: How names of images end, or several such endings; None: as any image does.
        options: Of mmengine's `BaseDataset`, and `bad_files`: 'error' or 'skip'.

    Raises:
        ValueError: A folder does not exist or has no image.
    """

    def __init__(
        self, data_root: str | Sequence[str], *, img_suffix: Endings = None, **options: Any
    ) -> None:
        self.folders = [data_root] if isinstance(data_root, str) else list(data_root)
        self.img_suffix = img_suffix
        super().__init__(data_root='', data_prefix={}, **options)

    def load_data_list(self) -> list[dict]:
        """List the images of all folders; a file that is in two of them is listed once."""
        found: dict[str, str] = {}
        for folder in self.folders or ['']:
            check_folders(folder, [folder], ['.*'], '')
            names = sorted(x for x in list_files(folder) if stem_of(x, self.img_suffix) is not None)
            check_found(folder, self.img_suffix, len(names))
            paths = (os.path.join(folder, name) for name in names)
            found |= {os.path.realpath(path): path for path in paths}
        _warn_of_masks(found.values())
        return [{'img_path': path} for path in found.values()]


@DATASETS.register_module()
class LabelledImages(BadFilesMixin, BaseDataset):
    """A folder of images and one of masks, which have the names of their images.

    Args:
        img_suffix: As of `UnlabelledImages`.
        seg_map_suffix: How names of masks end.
        options: Of mmengine's `BaseDataset`: `data_prefix=dict(img_path=..., seg_map_path=...)`.
    """

    def __init__(
        self, *, img_suffix: Endings = None, seg_map_suffix: str = '.png', **options: Any
    ) -> None:
        self.suffixes = img_suffix, seg_map_suffix
        super().__init__(**options)

    def load_data_list(self) -> list[dict]:
        """List the images with their masks."""
        folders = self.data_prefix['img_path'], self.data_prefix['seg_map_path']
        images, masks = self.suffixes
        check_folders(self.data_root, folders, ['.*', masks], '')
        found = list_pairs(*folders, img_suffix=images, seg_map_suffix=masks)
        check_found(folders[0], images, len(found.pairs) + len(found.images_without_mask))
        check_pairing(found, folders, images, masks, '')
        return [{'img_path': image, 'seg_map_path': mask} for image, mask in found.pairs]


def _warn_of_masks(paths: Iterable[str]) -> None:
    by_name: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        by_name[os.path.splitext(os.path.basename(path))[0]].append(path)
    repeated = [files for files in by_name.values() if len(files) > 1]
    for files in repeated[:_COMPARED]:
        first, *others = files
        other = next((one for one in others if _kind(one) != _kind(first)), None)
        if other is not None:
            print_log(
                f'{len(repeated)} names of images occur twice or more, as {first} and {other}. If '
                'one of them is a mask, it is trained on as an image: name folders without masks '
                'in data_root.',
                'current',
                level=logging.WARNING,
            )
            return


def _kind(path: str) -> tuple[str, str]:
    """Return ending and mode, such as '.jpg' and 'RGB'; Pillow does not know every format."""
    try:
        with Image.open(path) as image:
            mode = image.mode
    except (OSError, Image.DecompressionBombError):
        mode = ''
    return os.path.splitext(path)[1].lower(), mode
