"""What the page does with one image: check it, predict once, draw as often as needed."""

import base64
import tempfile
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..data.image_files import read_checked
from ..data.pictures import Picture
from ..runtime import Detections, Predictor, Segmentation
from ..runtime.images import read_image
from ..runtime.predictor import BYTES_PER_SCORE
from ..runtime.results import Result

# Longest edge, in pixels, of what the browser shows; the download has the size of the image.
VIEW_EDGE = 1600
_MAX_MEGAPIXELS = 25.0
_SCORE_BUDGET = 8 * 2**30  # bytes


@dataclass(frozen=True)
class Limits:
    """What the page takes.

    Args:
        megabytes: Maximum size of a file, in MiB.
        megapixels: Maximum width times height, in millions.
    """

    megabytes: float
    megapixels: float


@dataclass(frozen=True, eq=False)
class Prediction:
    """What is kept of an image while its user looks at it.

    Args:
        name: File name of the image.
        size: Height and width of the image.
        view: The result at the size of the picture that is shown, with that picture.
        areas: Share of the image per class (segmentation), 0..1.
        file_name: What to call the download.
        content: The download: an index PNG, or JSON in the format of COCO results.
        seconds: How long reading and predicting took.
    """

    name: str
    size: tuple[int, int]
    view: Result
    areas: dict[str, float]
    file_name: str
    content: bytes
    seconds: float


def default_megapixels(predictor: Predictor) -> float:
    """Return 25, or less for a segmentor with so many classes that its scores exceed 8 GiB."""
    if predictor.task == 'detection':
        return _MAX_MEGAPIXELS
    fitting = _SCORE_BUDGET / (BYTES_PER_SCORE * max(len(predictor.classes), 1)) / 1e6
    return min(_MAX_MEGAPIXELS, round(fitting, 1))


def predict_file(predictor: Predictor, path: str | Path, limits: Limits) -> Prediction:
    """Predict one uploaded image, as `vit-dense predict` does.

    Raises:
        ValueError: The file is too large, no image, damaged, or the model cannot take it; one line
            that calls it by its name, without its folder.
    """
    path = Path(path)
    try:
        check_file(path, limits)
        start = time.perf_counter()
        result: Result = predictor.predict(str(path))
        seconds = time.perf_counter() - start
        image = result.image
        if image is None or isinstance(image, str):
            image = np.ascontiguousarray(read_image(path)[..., ::-1])
    except ValueError as error:
        raise ValueError(str(error).replace(str(path), path.name)) from error
    segmented = isinstance(result, Segmentation)
    file_name = f'{path.stem}_mask.png' if segmented else f'{path.stem}.json'
    return Prediction(
        path.name,
        (image.shape[0], image.shape[1]),
        _for_view(result, image),
        result.areas() if isinstance(result, Segmentation) else {},
        file_name,
        _saved(result, file_name),
        seconds,
    )


def check_file(path: Path, limits: Limits) -> None:
    """Raise `ValueError` if a file is no image or exceeds the limits, without decoding it."""
    megabytes = path.stat().st_size / 2**20
    if megabytes > limits.megabytes:
        raise ValueError(
            f'{path}: the file has {megabytes:.1f} MB; this page takes up to '
            f'{limits.megabytes:g} (--max-upload of vit-dense serve).'
        )
    read_checked(path)
    width, height = _size(path)
    if width * height > limits.megapixels * 1e6:
        raise ValueError(
            f'{path}: the image has {width} x {height} pixels ({width * height / 1e6:.1f} million);'
            f' this page takes up to {limits.megapixels:g} million (--max-megapixels of vit-dense '
            'serve). Larger ones: vit-dense predict.'
        )


def draw(
    prediction: Prediction, *, opacity: float, threshold: float, hidden: Collection[str]
) -> Picture:
    """Return the picture to show, `(H, W, 3)` uint8 RGB.

    Args:
        prediction: From `predict_file`.
        opacity: Share of the class colours, 0..1.
        threshold: Minimum score of an object (detection).
        hidden: Names of the classes to leave out.
    """
    view = prediction.view
    if isinstance(view, Segmentation):
        # Indices below 0 have no colour.
        shown = np.array([i if name not in hidden else -1 for i, name in enumerate(view.classes)])
        return replace(view, labels=shown[view.labels]).draw(opacity=opacity)
    classes = [name for name in view.classes if name not in hidden]
    return view.select(score_threshold=threshold, classes=classes).draw(opacity=opacity)


def legend(
    prediction: Prediction, *, threshold: float, hidden: Collection[str]
) -> list[dict[str, Any]]:
    """Return a row per class in the image, the largest first: name, colour, share or number.

    Each row has 'name', 'colour' (CSS), 'amount' (share of the area in %, or number of objects),
    'bar' (0..100, the length of its bar) and 'shown'.
    """
    view = prediction.view
    if isinstance(view, Segmentation):
        amounts = dict(prediction.areas)
        texts = {name: _percent(share) for name, share in amounts.items()}
    else:
        labels = view.select(score_threshold=threshold).labels
        counts = np.bincount(labels, minlength=len(view.classes))
        amounts = {
            name: float(count)
            for name, count in zip(view.classes, counts, strict=True)
            if count or name in hidden
        }
        texts = {name: f'{count:.0f}' for name, count in amounts.items()}
    total = sum(amounts.values()) or 1.0
    return [
        {
            'name': name,
            'colour': 'rgb({}, {}, {})'.format(*view.palette[view.classes.index(name)]),
            'amount': texts[name],
            'bar': round(100 * amount / total, 1),
            'shown': name not in hidden,
        }
        for name, amount in sorted(amounts.items(), key=lambda one: -one[1])
    ]


def data_url(content: bytes, kind: str) -> str:
    """Return bytes as a URL that needs no file and no request, such as of kind 'image/png'."""
    return f'data:{kind};base64,{base64.b64encode(content).decode()}'


def picture_url(picture: Picture, suffix: str = '.png') -> str:
    """Return an RGB picture as a data URL."""
    _, content = cv2.imencode(suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return data_url(content.tobytes(), 'image/png' if suffix == '.png' else 'image/jpeg')


def shrink(picture: Picture, edge: int) -> Picture:
    """Return a picture with its longest edge reduced to `edge` pixels if it is longer."""
    size = _view_size(picture.shape[:2], edge)
    return picture if size is None else _resize(picture, size, cv2.INTER_AREA)


def _for_view(result: Result, image: Picture) -> Result:
    """Return a result at the size that is shown: neither memory nor drawing grow beyond."""
    size = _view_size(image.shape[:2], VIEW_EDGE)
    if size is None:
        return replace(result, image=image)
    picture = _resize(image, size, cv2.INTER_AREA)
    if isinstance(result, Segmentation):
        labels = _resize(result.labels, size, cv2.INTER_NEAREST)
        return replace(result, labels=labels, image=picture)
    masks = result.masks
    if masks is not None:
        small = [_resize(one.astype(np.uint8), size, cv2.INTER_NEAREST) for one in masks]
        masks = np.array(small, bool).reshape(-1, size[1], size[0])
    scale = np.array(size, np.float32) / (image.shape[1], image.shape[0])
    boxes = (result.boxes * np.tile(scale, 2)).astype(np.float32)
    return replace(result, boxes=boxes, masks=masks, size=size[::-1], image=picture)


def _view_size(shape: tuple[int, ...], edge: int) -> tuple[int, int] | None:
    """Return the width and height to resize to, or None."""
    factor = edge / max(shape)
    height, width = (max(round(one * factor), 1) for one in shape)
    return (width, height) if factor < 1 else None


def _resize(array: NDArray[Any], size: tuple[int, int], interpolation: int) -> NDArray[Any]:
    return cv2.resize(array, size, interpolation=interpolation)


def _saved(result: Segmentation | Detections, name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        result.save(path)
        return path.read_bytes()


def _percent(share: float) -> str:
    return f'{100 * share:.1f} %' if share >= 0.0005 else '< 0.1 %'


def _size(path: Path) -> tuple[int, int]:
    """Return the width and height of an image that its header names."""
    from PIL import Image, TiffImagePlugin

    unknown = f'{path}: its size cannot be read: the file is damaged or of an unknown format'
    try:
        with Image.open(path) as image:
            return image.size
    except Image.DecompressionBombError as error:
        raise ValueError(f'{path}: {error}') from error
    except (OSError, SyntaxError, ValueError) as error:
        try:  # TIFF files of types that Pillow does not decode and OpenCV does
            with path.open('rb') as file:
                directory = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
                file.seek(directory.next)
                directory.load(file)
                return int(directory[256]), int(directory[257])
        except Exception:
            raise ValueError(unknown) from error
