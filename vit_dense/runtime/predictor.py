"""Predict images of any source in batches; subclasses run a model on one batch."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..data.pictures import Picture
from .images import read_image
from .inputs import InputError, Item, Source, expand, is_single
from .results import Result
from .tile_model import TileModel

Task = Literal['segmentation', 'detection']
# Memory per pixel and class: mmseg keeps scores at the size of the image in several copies.
BYTES_PER_SCORE = 13
# How many batches of images wait for others of their size.
_WAITING_BATCHES = 4


@dataclass(frozen=True)
class PredictOptions:
    """How to predict.

    Args:
        batch_size: Maximum number of images of equal size that run together.
        tta: Test-time augmentation, as the config's `tta_pipeline` has it.
        dtype: 'float32', or 'bfloat16' or 'float16' for mixed precision; None keeps the model's.
        channel_order: 'bgr' or 'rgb', of arrays; files and PIL images need none.
        scores: Whether a `Segmentation` has the probability of every class.
    """

    batch_size: int = 8
    tta: bool = False
    dtype: str | None = None
    channel_order: str = 'bgr'
    scores: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f'batch_size must be at least 1, got {self.batch_size}.')
        if self.channel_order not in ('bgr', 'rgb'):
            raise ValueError(f"channel_order={self.channel_order!r}: give 'bgr' or 'rgb'.")


@dataclass(frozen=True)
class Prepared:
    """An image after pre-processing.

    Args:
        shape: Images of equal shape can be one batch.
        data: What the model takes.
        item: Where the image is from.
        image: For `Result.image`.
    """

    shape: tuple[int, ...]
    data: Any
    item: Item
    image: Picture | str | None = None


class Predictor(ABC):
    """A model in use.

    Args:
        task: 'segmentation' or 'detection'.
        classes: Name of each class.
        palette: `(num_classes, 3)` uint8, the RGB colour of each class.
    """

    def __init__(self, task: Task, classes: Sequence[str], palette: NDArray[np.uint8]) -> None:
        self.task = task
        self.classes = tuple(classes)
        self.palette = palette

    def predict(
        self,
        inputs: Source,
        *,
        batch_size: int = 8,
        tta: bool = False,
        dtype: str | None = None,
        channel_order: str = 'bgr',
        scores: bool = False,
    ) -> Any:
        """Predict one image or many.

        Args:
            inputs: A path, a folder (with its sub-folders), a pattern such as 'data/*.jpg', an
                array `(H, W, 3)` uint8, a PIL image, a list of these, or an iterator.
            batch_size: Maximum number of images that run together; their sizes are equal.
            tta: Test-time augmentation, as the config's `tta_pipeline` has it.
            dtype: 'bfloat16' or 'float16' for mixed precision, 'float32' without; None keeps the
                model's.
            channel_order: 'bgr' (as OpenCV loads) or 'rgb', of arrays.
            scores: Whether to return the probability of every class (segmentation).

        Returns:
            One `Segmentation` or `Detections` for one image; a list for a list, folder or pattern;
            an iterator, which predicts as it goes, for an iterator.

        Raises:
            ValueError: An image cannot be read or predicted. To go on with the others, use
                `iter_predictions`.
        """
        options = PredictOptions(batch_size, tta, dtype, channel_order, scores)
        self.check(options)
        results = (_require(result) for _, result in self._stream(expand(inputs), options))
        if isinstance(inputs, Iterator):
            return results
        return next(results) if is_single(inputs) else list(results)

    def iter_predictions(
        self, items: Iterable[Item], options: PredictOptions | None = None
    ) -> Iterator[tuple[Item, Result | InputError]]:
        """Yield each image with its result, in order, or with why it has none.

        Args:
            items: From `inputs.expand`.
            options: As for `predict`.

        Raises:
            ValueError: The model does not support an option.
        """
        options = options or PredictOptions()
        self.check(options)
        return self._stream(items, options)

    @abstractmethod
    def check(self, options: PredictOptions) -> None:
        """Raise `ValueError` if the model does not support an option."""

    @abstractmethod
    def prepare(self, item: Item, options: PredictOptions) -> Prepared:
        """Read and pre-process one image.

        Raises:
            ValueError: The image cannot be read or is too small; one line.
        """

    @abstractmethod
    def run(self, batch: Sequence[Prepared], options: PredictOptions) -> list[Result]:
        """Predict images of equal shape."""

    def read(self, path: str) -> NDArray[Any]:
        """Return the pixels of a file as `prepare` reads them: `(H, W, C)`, BGR for three channels.

        Raises:
            ValueError: It cannot be read; one line.
        """
        return read_image(path)

    def tile_model(self) -> TileModel:
        """Return this model for tiles of large images, for `tiles.predict_tiled`.

        Raises:
            ValueError: It cannot predict tiles.
        """
        raise ValueError(f'{type(self).__name__} cannot predict tiles of large images.')

    def _stream(
        self, items: Iterable[Item], options: PredictOptions
    ) -> Iterator[tuple[Item, Result | InputError]]:
        """Run a batch as soon as it is full; yield in order."""
        waiting: dict[int, Item] = {}  # by number, in order
        finished: dict[int, Result | InputError] = {}
        groups: dict[tuple[int, ...], list[tuple[int, Prepared]]] = {}
        for number, item in enumerate(items):
            waiting[number] = item
            try:
                prepared = self.prepare(item, options)
            except (ValueError, OSError, MemoryError) as error:
                finished[number] = input_error(item, error)
            else:
                group = groups.setdefault(prepared.shape, [])
                group.append((number, prepared))
                if len(group) == options.batch_size:
                    finished.update(self._run(groups.pop(prepared.shape), options))
            yield from _in_order(waiting, finished)
            # The first of those that wait may be of a rare size: run it in a smaller batch.
            while groups and len(waiting) >= _WAITING_BATCHES * options.batch_size:
                oldest = min(groups, key=lambda shape: groups[shape][0][0])
                finished.update(self._run(groups.pop(oldest), options))
                yield from _in_order(waiting, finished)
        for group in groups.values():
            finished.update(self._run(group, options))
        yield from _in_order(waiting, finished)

    def _run(
        self, group: Sequence[tuple[int, Prepared]], options: PredictOptions
    ) -> dict[int, Result | InputError]:
        """Run a batch; if that fails, run its images one by one."""
        try:
            results = self.run([one for _, one in group], options)
        except (ValueError, RuntimeError, MemoryError) as error:
            if len(group) == 1:
                number, prepared = group[0]
                return {number: input_error(prepared.item, error)}
            found: dict[int, Result | InputError] = {}
            for one in group:
                found.update(self._run([one], options))
            return found
        return {number: result for (number, _), result in zip(group, results, strict=True)}


def _in_order(
    waiting: dict[int, Item], finished: dict[int, Result | InputError]
) -> Iterator[tuple[Item, Result | InputError]]:
    while waiting and (number := next(iter(waiting))) in finished:
        yield waiting.pop(number), finished.pop(number)


def input_error(item: Item, error: Exception) -> InputError:
    """Return one line about an error, which names the image."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    known = text.startswith(item.path) if item.path else False
    return InputError(item.name, text if known else f'{item.path or item.name}: {text}')


def _require(result: Result | InputError) -> Result:
    if isinstance(result, InputError):
        raise ValueError(result.message)
    return result
