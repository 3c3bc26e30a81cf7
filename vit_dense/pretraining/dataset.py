"""Images without labels for pretraining, and images with masks for the probe of its features."""

import os
from collections.abc import Sequence
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from ..data.folder_checks import check_folders, check_found, check_pairing
from ..data.pairs import Endings, list_files, list_pairs, stem_of
from ..engine.bad_files import BadFilesMixin


@DATASETS.register_module()
class UnlabelledImages(BadFilesMixin, BaseDataset):
    """All images in one folder or several, and in their subfolders.

    Args:
        data_root: The folder, or a list of folders. Masks are images, too: name no folder that
            holds them.
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
