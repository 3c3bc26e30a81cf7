"""Read windows of large images: GeoTIFF and the like through rasterio, others decoded whole."""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .images import as_image, read_image

Span = tuple[int, int]  # first and last (excluded) pixel

TIFF_SUFFIXES = ('.tif', '.tiff', '.vrt')
# MiB of decoded blocks: two rows of tiles of a wide image.
_CACHE = 256
_CHUNK = 1024  # columns whose bands are in memory together
_LEVELS = 255


@dataclass(frozen=True, kw_only=True)
class RasterOptions:
    """How to read an image for a model.

    Args:
        channel_order: 'bgr' or 'rgb', of an array.
        bands: Bands of a TIFF file to use, counted from 1, in the order red, green, blue, or that
            of the model's channels. None takes them if the file leaves no doubt.
        scale_from: Values of a TIFF file that become 0 and 255; others are clipped.
    """

    channel_order: str = 'bgr'
    bands: Sequence[int] | None = None
    scale_from: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.scale_from is not None and not self.scale_from[0] < self.scale_from[1]:
            raise ValueError(f'scale_from={self.scale_from}: give (MIN, MAX) with MIN below MAX.')


class Raster:
    """An image in memory, read in windows.

    Args:
        image: `(H, W, C)` as the model takes it, BGR for three channels.
        name: For messages.
    """

    def __init__(self, image: NDArray[Any], name: str) -> None:
        self.image = image
        self.name = name
        self.height, self.width = image.shape[:2]
        self.georeference: dict[str, Any] = {}

    def read(self, rows: Span, columns: Span) -> NDArray[Any] | None:
        """Return pixels `(h, w, C)`, or None if none of them has data."""
        return np.ascontiguousarray(self.image[slice(*rows), slice(*columns)])

    def valid(self, rows: Span, columns: Span) -> NDArray[np.bool_] | None:
        """Return which pixels `(h, w)` have data; None if all have."""
        return None


class FileRaster(Raster):
    """A data set of rasterio.

    Args:
        dataset: Opened for reading.
        channels: Of the model.
        options: How to read it.

    Raises:
        ValueError: Bands or data type do not suit the model.
    """

    def __init__(self, dataset: Any, channels: int, options: RasterOptions) -> None:
        self.dataset = dataset
        self.name = dataset.name
        self.height, self.width = dataset.height, dataset.width
        self.bands = _choose_bands(dataset, channels, options.bands)
        self.swap = channels == 3
        self.scale = options.scale_from
        kinds = {np.dtype(dataset.dtypes[band - 1]) for band in self.bands}
        if channels == 3 and self.scale is None and kinds != {np.dtype(np.uint8)}:
            raise ValueError(
                f'{self.name}: the values are {", ".join(map(str, kinds))}, and the model takes '
                '8-bit images. Name the values that become 0 and 255: --scale-from MIN,MAX.'
            )
        self.floating = any(kind.kind == 'f' for kind in kinds)
        self.exact = kinds == {np.dtype(np.uint8)}
        flags = [{flag.name for flag in dataset.mask_flag_enums[band - 1]} for band in self.bands]
        self.complete = not self.floating and all(flag == {'all_valid'} for flag in flags)
        self.georeference = {'crs': dataset.crs, 'transform': dataset.transform}
        points, system = dataset.gcps
        if points:
            self.georeference = {'gcps': points, 'crs': system}

    def read(self, rows: Span, columns: Span) -> NDArray[Any] | None:
        """Return pixels; those without data have the mean of the window's others."""
        data = self.dataset.read(self.bands, window=(rows, columns))
        if not self.complete:
            mask = self._masks(data, rows, columns)
            present = mask.any(axis=0)
            if not present.any():
                return None
            if self.exact:  # a single band can have the value for missing data, such as 0
                mask = np.broadcast_to(present, mask.shape)
            for band, known in zip(data, mask, strict=True):
                if not known.all():
                    band[~known] = band[known].mean() if known.any() else 0
        if self.scale is not None:
            low, high = self.scale
            data = (data.astype(np.float32) - low) * (_LEVELS / (high - low))
            data = np.rint(data.clip(0, _LEVELS)).astype(np.uint8)
        return np.ascontiguousarray(np.moveaxis(data[::-1] if self.swap else data, 0, -1))

    def valid(self, rows: Span, columns: Span) -> NDArray[np.bool_] | None:
        """Return which pixels have data in at least one band; NaN is none."""
        if self.complete:
            return None
        parts = []
        for left in range(columns[0], columns[1], _CHUNK):
            part = left, min(left + _CHUNK, columns[1])
            floating = self.floating
            data = self.dataset.read(self.bands, window=(rows, part)) if floating else None
            parts.append(self._masks(data, rows, part).any(axis=0))
        return np.concatenate(parts, axis=1)

    def _masks(self, data: NDArray[Any] | None, rows: Span, columns: Span) -> NDArray[np.bool_]:
        masks = self.dataset.read_masks(self.bands, window=(rows, columns)) > 0
        if self.floating and data is not None:
            masks &= np.isfinite(data)
        return masks


@contextlib.contextmanager
def open_raster(
    source: str | Path | NDArray[Any],
    channels: int,
    options: RasterOptions,
    read: Callable[[str], NDArray[Any]] = read_image,
) -> Iterator[Raster]:
    """Open an image for a model of `channels` channels.

    Args:
        source: A path, or an array `(H, W, C)`.
        channels: Of the model.
        options: How to read a TIFF file.
        read: Reads other files whole.

    Raises:
        ValueError: It cannot be read, or does not suit the model.
    """
    if isinstance(source, np.ndarray):
        order = options.channel_order
        yield Raster(as_image(source, channels=channels, channel_order=order), 'array')
        return
    plain = options.bands is None and options.scale_from is None and channels == 3
    if plain and not _is_raster(source):
        yield Raster(read(str(source)), str(source))
        return
    rasterio = import_rasterio(f'{source}: reading bands, and values that are not 8-bit colours,')
    if not Path(source).is_file():
        raise ValueError(f'{source}: No such file')
    with raster_settings(rasterio):
        try:
            dataset = rasterio.open(source)
        except rasterio.errors.RasterioIOError as error:
            raise ValueError(f'{source}: {error}') from error
        with dataset:
            try:
                yield FileRaster(dataset, channels, options)
            except rasterio.errors.RasterioIOError as error:
                raise ValueError(f'{source}: {error}') from error


@contextlib.contextmanager
def raster_settings(rasterio: Any) -> Iterator[None]:
    """Limit the blocks that GDAL keeps, and accept images without a place on earth."""
    with rasterio.Env(GDAL_CACHEMAX=_CACHE), warnings.catch_warnings():
        warnings.simplefilter('ignore', rasterio.errors.NotGeoreferencedWarning)
        yield


def _is_raster(source: str | Path) -> bool:
    """Return whether rasterio must read a file: a TIFF, unless OpenCV can and rasterio is missing.

    OpenCV would reduce 16 bits to 8, and drop bands, without a word.
    """
    if Path(source).suffix.lower() not in TIFF_SUFFIXES:
        return False
    with contextlib.suppress(ValueError):
        return bool(import_rasterio(str(source)))
    image = cv2.imread(str(source), cv2.IMREAD_UNCHANGED)
    return image is None or image.dtype != np.uint8 or image.shape[2:] not in ((), (3,))


def import_rasterio(purpose: str) -> Any:
    """Return the module.

    Raises:
        ValueError: It is not installed.
    """
    try:
        import rasterio
        import rasterio.errors
    except ImportError as error:
        raise ValueError(f'{purpose} needs rasterio: pip install "vit_dense[geo]".') from error
    return rasterio


def _choose_bands(dataset: Any, channels: int, given: Sequence[int] | None) -> list[int]:
    """Return the bands, counted from 1, in the order of the model's channels (RGB for three)."""
    colours = [colour.name for colour in dataset.colorinterp]
    found = f'{dataset.name} has {dataset.count} bands ({", ".join(colours)})'
    if given is not None:
        if len(given) != channels or not all(1 <= band <= dataset.count for band in given):
            raise ValueError(
                f'{found}; got --bands {",".join(map(str, given))}. Give {channels} numbers '
                f'in 1..{dataset.count}, one for each channel of the model.'
            )
        return list(given)
    usable = [i for i, colour in enumerate(colours, 1) if colour != 'alpha']
    if channels != 3:
        if len(usable) != channels:
            raise ValueError(
                f'{found}, and the model takes {channels} channels. Name the bands: --bands '
                f'{",".join(map(str, range(1, channels + 1)))}, for example.'
            )
        return usable
    rgb = [colours.index(name) + 1 for name in ('red', 'green', 'blue') if name in colours]
    if len(usable) == 3 and len(rgb) == 3:
        return rgb
    if len(usable) == 1 and colours[usable[0] - 1] != 'palette':
        return usable * 3  # grey
    raise ValueError(
        f'{found}, and the model takes red, green and blue. Name these bands: --bands 1,2,3, for '
        'example. (Colour tables: gdal_translate -expand rgb.)'
    )
