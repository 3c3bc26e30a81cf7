"""Predict with a file of `vit-dense export`, without PyTorch."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .detection import paste_masks, select_dense
from .engines import Engine, open_engine
from .file_description import FileDescription
from .images import as_image, read_image
from .inputs import Item
from .predictor import PredictOptions, Predictor, Prepared
from .preprocessing import Size, pad_image, prepare_image
from .results import Detections, Result, Segmentation
from .segmentation import labels_and_scores, resize_planes, slide
from .tile_model import DEFAULT_TILE, TileModel

Floats = NDArray[np.float32]


def load_exported(path: str | Path) -> 'ExportedPredictor':
    """Load a file of `vit-dense export`: .onnx, or .xml (with its .bin) of OpenVINO.

    Raises:
        ValueError: The file is missing, damaged, foreign or of another format version, or the
            package that runs it (onnxruntime, openvino) is not installed.
    """
    engine = open_engine(path)
    description = FileDescription.from_json(engine.metadata, str(path))
    kinds: dict[str, type[ExportedPredictor]] = {
        'segmentation': ExportedSegmentor,
        'detection': ExportedDetector,
    }
    return kinds[description.task](engine, description)


class ExportedPredictor(Predictor):
    """An exported model in use; from `load_exported`.

    Args:
        engine: Runs the graph.
        description: What the file says about itself.
    """

    def __init__(self, engine: Engine, description: FileDescription) -> None:
        palette = np.array(description.palette, np.uint8).reshape(-1, 3)
        super().__init__(description.task, description.classes, palette)  # type: ignore[arg-type]
        self.engine = engine
        self.description = description

    def check(self, options: PredictOptions) -> None:
        """Raise `ValueError` for what only the model before export can do."""
        if options.tta:
            raise ValueError('tta: an exported file has no test-time augmentation. Leave it out.')
        if options.dtype not in (None, 'float32'):
            raise ValueError(
                f'dtype={options.dtype!r}: an exported file runs in float32. Leave dtype out.'
            )

    def prepare(self, item: Item, options: PredictOptions) -> Prepared:
        """Read an image and pre-process it."""
        steps = self.description.preprocessing
        if item.array is not None:
            order = item.channel_order or options.channel_order
            image: NDArray[Any] = as_image(item.array, channels=self._channels, channel_order=order)
        else:
            image = read_image(str(item.path))
        planes, inside = prepare_image(image, steps)
        planes = self._fit(planes)
        picture = image[..., ::-1] if image.shape[2] == 3 else None
        original = image.shape[0], image.shape[1]
        shape = (*planes.shape, *inside, *original)
        return Prepared(shape, (planes, inside, original), item, picture)

    @property
    def _channels(self) -> int:
        mean = self.description.preprocessing.mean
        return 3 if mean is None or len(mean) == 1 else len(mean)

    def _fit(self, planes: Floats) -> Floats:
        """Return an image as the graph takes it.

        Raises:
            ValueError: The graph does not take this size.
        """
        raise NotImplementedError

    def _graph(self, images: Floats, **others: Any) -> dict[str, Floats]:
        """Run the graph on `(B, C, h, w)`, in parts if its batch is fixed."""
        batch = self.description.batch or len(images)
        parts = [
            self.engine.run({'image': images[i : i + batch], **others})
            for i in range(0, len(images), batch)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _size_error(self, planes: Floats) -> ValueError:
        height, width = planes.shape[1:]
        wanted = ' x '.join(map(str, self.description.size or ()))
        given = f'after pre-processing it has {height} x {width} pixels (height x width), and the'
        if self.description.postprocessing.get('crop_size') is not None:
            return ValueError(
                f'{given} exported file takes windows of {wanted}. Set a smaller '
                "test_cfg.crop_size, or mode='whole', in the config, and export it again."
            )
        return ValueError(
            f'{given} exported file takes {wanted}. Export one with --size {height} {width}.'
        )


class ExportedSegmentor(ExportedPredictor):
    """Settings: 'crop_size' and 'stride' of windows, or None; others in `labels_and_scores`."""

    def _fit(self, planes: Floats) -> Floats:
        size, crop = self.description.size, self.description.postprocessing['crop_size']
        given = planes.shape[1:]
        if size is not None and crop is None and given != size:
            raise self._size_error(planes)
        if size is not None and crop is not None and (given[0] < size[0] or given[1] < size[1]):
            raise self._size_error(planes)
        return planes

    def run(self, batch: Sequence[Prepared], options: PredictOptions) -> list[Result]:
        """Predict images of equal shape."""
        settings = self.description.postprocessing
        images = np.stack([one.data[0] for one in batch])
        if settings['crop_size'] is not None:
            crop, stride = tuple(settings['crop_size']), tuple(settings['stride'])
            logits = slide(lambda x: self._graph(x)['logits'], images, crop, stride)
        else:
            logits = self._graph(images)['logits']
        return [
            self._result(planes, one, options) for planes, one in zip(logits, batch, strict=True)
        ]

    def tile_model(self) -> TileModel:
        """Return this file for tiles of large images.

        Raises:
            ValueError: The file takes images that are not square.
        """
        settings = self.description.postprocessing
        height, width = settings['crop_size'] or self.description.size or (DEFAULT_TILE,) * 2
        if height != width:
            raise ValueError(
                f'Tiles are square, and this file takes {height} x {width} pixels. Export one with '
                f'--size {height} {height}.'
            )
        steps = replace(self.description.preprocessing, resizes=())
        native = type(self)(self.engine, replace(self.description, preprocessing=steps))
        # Tiles may start anywhere, so that none at the border is smaller than the graph's input.
        return TileModel(native, self._channels, height, threshold=settings['threshold'])

    def _result(self, logits: Floats, prepared: Prepared, options: PredictOptions) -> Result:
        _, (height, width), original = prepared.data
        logits = resize_planes(logits[:, :height, :width], original)
        settings = self.description.postprocessing
        labels, scores = labels_and_scores(
            logits, settings, len(self.classes), scores=options.scores
        )
        return Segmentation(labels, self.classes, self.palette, scores, prepared.image)


class ExportedDetector(ExportedPredictor):
    """Settings: 'kind' ('dense' or 'final'), 'mask_threshold', and those of `select_dense`."""

    def _fit(self, planes: Floats) -> Floats:
        size = self.description.size
        if size is None:
            return planes
        if planes.shape[1] > size[0] or planes.shape[2] > size[1]:
            raise self._size_error(planes)
        return pad_image(planes, size, self.description.preprocessing.pad_value)

    def run(self, batch: Sequence[Prepared], options: PredictOptions) -> list[Result]:
        """Predict images of equal shape."""
        images = np.stack([one.data[0] for one in batch])
        if self.description.postprocessing['kind'] == 'dense':
            found = self._graph(images)
            return [
                self._result(one, *self._select({k: v[i] for k, v in found.items()}, one), None)
                for i, one in enumerate(batch)
            ]
        results = []
        for image, one in zip(images, batch, strict=True):
            inside = np.array(one.data[1], np.float32)
            final = self.engine.run({'image': image[None], 'image_size': inside})
            kept = final['scores'] > 0
            boxes, scores, labels = (final[k][kept] for k in ('boxes', 'scores', 'labels'))
            masks = final['masks'][kept] if 'masks' in final else None
            results.append(self._result(one, boxes, scores, labels, masks))
        return results

    def _select(self, found: dict[str, Floats], prepared: Prepared) -> tuple[Any, Any, Any]:
        settings = self.description.postprocessing
        factors = found.get('factors')
        return select_dense(found['scores'], found['boxes'], factors, prepared.data[1], settings)

    def _result(
        self, prepared: Prepared, boxes: Floats, scores: Floats, labels: Any, masks: Floats | None
    ) -> Result:
        _, inside, original = prepared.data
        boxes = boxes / _scale(inside, original)
        pasted = None
        if masks is not None:
            threshold = self.description.postprocessing['mask_threshold']
            pasted = paste_masks(masks, boxes, original, threshold)
        return Detections(
            boxes=boxes.astype(np.float32),
            scores=scores.astype(np.float32),
            labels=labels.astype(np.int64),
            size=original,
            classes=self.classes,
            palette=self.palette,
            masks=pasted,
            image=prepared.image,
        )


def _scale(inside: Size, original: Size) -> Floats:
    """Return the factors of x1, y1, x2, y2 from the original image to the graph's input."""
    x, y = inside[1] / original[1], inside[0] / original[0]
    return np.array([x, y, x, y], np.float32)
