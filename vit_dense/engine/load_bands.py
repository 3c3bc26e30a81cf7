"""`LoadBands`: images of any number of channels and bits, for training and prediction."""

import os
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.fileio import get_local_path
from mmengine.registry import TRANSFORMS
from numpy.typing import NDArray

from ..data.image_files import BadFileError, read_checked
from ..runtime.rasters import TIFF_SUFFIXES, import_rasterio, raster_settings

_LEVELS = 255.0
_SMALLEST = 32  # pixels: the least edge of an image


@TRANSFORMS.register_module()
class LoadBands(BaseTransform):
    """Load the bands of a `.npy` file, of a TIFF (needs rasterio), or of an image.

    Use it in the place of `LoadImageFromFile`, in the pipelines of training and test. The model
    gets the bands in the order of the file or of `bands`; three are loaded in reverse, as B, G, R,
    since `data_preprocessor.bgr_to_rgb=True` reverses images of three channels again.

    Args:
        bands: Bands to use, counted from 1, in this order. None: all.
        max_value: Value that becomes 255, such as 4095 for 12 bits and 65535 for 16; others are
            scaled and clipped to 0..255. None: values stay as they are.
        backend_args: Of mmengine's file backends, for remote storage.

    Raises:
        BadFileError: The file is missing or damaged.
        ValueError: It has other bands than `bands`, or `max_value` is far too small.
    """

    def __init__(
        self,
        *,
        bands: Sequence[int] | None = None,
        max_value: float | None = None,
        backend_args: dict | None = None,
    ) -> None:
        if max_value is not None and not max_value > 0:
            raise ValueError(f'LoadBands(max_value={max_value}): give a positive number, or None.')
        self.bands = bands
        self.max_value = max_value
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        """Load `results['img_path']` into 'img', `(H, W, C)`, 'img_shape' and 'ori_shape'.

        The type is uint8 if the file has it and `max_value` is None, else float32. Pixels without
        data (NaN, or what a TIFF declares) are 0.
        """
        path = str(results['img_path'])
        image = _read(path, self.backend_args)
        count = image.shape[2]
        if self.bands is not None:
            if not all(1 <= band <= count for band in self.bands):
                raise ValueError(
                    f'{path} has {count} bands, and LoadBands(bands={list(self.bands)}) names '
                    f'others: give numbers in 1..{count}.'
                )
            image = image[..., [band - 1 for band in self.bands]]
        image = self._scale(image, path)
        results['img'] = np.ascontiguousarray(image[..., ::-1] if image.shape[2] == 3 else image)
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def _scale(self, image: NDArray[Any], path: str) -> NDArray[Any]:
        if image.dtype == np.uint8 and self.max_value is None:
            return image
        image = np.nan_to_num(image.astype(np.float32))
        if self.max_value is None:
            return image
        share = float((image > self.max_value).mean())
        if share > 0.5:
            raise ValueError(
                f'{path}: {share:.0%} of the values are above LoadBands(max_value='
                f'{self.max_value}), up to {image.max():g}, and would all become 255. Set the '
                'largest value that the sensor gives.'
            )
        return (image * (_LEVELS / self.max_value)).clip(0, _LEVELS)


def _read(path: str, backend_args: dict | None) -> NDArray[Any]:
    """Read `(H, W, C)`, with the channels in the order of the file."""
    ending = os.path.splitext(path)[1].lower()
    rasterio = import_rasterio(f'{path}: LoadBands') if ending in TIFF_SUFFIXES else None
    try:
        with get_local_path(path, backend_args=backend_args) as local:
            if rasterio is not None:
                with raster_settings(rasterio), rasterio.open(local) as file:
                    return np.moveaxis(file.read(masked=True).filled(0), 0, -1)
            if ending == '.npy':
                image = np.load(local, allow_pickle=False)
            else:
                content = np.frombuffer(read_checked(local), np.uint8)
                image = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    except (OSError, EOFError, ValueError, cv2.error) as error:
        raise BadFileError(f'{path} cannot be read: {error}') from error
    if image is None or image.ndim not in (2, 3):
        found = getattr(image, 'shape', 'nothing')
        raise BadFileError(f'{path}: found {found} instead of an image (H, W) or (H, W, bands)')
    image = image[..., None] if image.ndim == 2 else image
    if ending == '.npy':  # (bands, H, W), as other libraries save it: no image is so low
        return np.moveaxis(image, 0, -1) if len(image) < _SMALLEST <= image.shape[2] else image
    return image[..., [2, 1, 0, *range(3, image.shape[2])]] if image.shape[2] > 2 else image
