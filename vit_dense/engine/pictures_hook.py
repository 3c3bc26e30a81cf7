"""Saves what the model sees at validation and test; a task says how one sample is drawn."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.dist import is_main_process
from mmengine.fileio import get as read_bytes
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from ..data.pictures import Colours, Picture, legend, sheet

_COLOUR_STEPS = 6


class PicturesHook(Hook):
    """Writes pictures below the work directory.

        work_dir/pictures/val/NAME.png        the parts of `CONTENT`, of the last validation
        work_dir/pictures/val_iter_300.png    all of them on one sheet with a legend
        work_dir/pictures/test/, test.png     the same for the test

    Args:
        count: How many images, spread evenly over the data set; None takes every image.
        folder: Where to write instead of `work_dir/pictures`.
        opacity: Share of the class colours over the image, 0..1.
        sheet_size: At most so many images on the sheet.
    """

    CONTENT: ClassVar[str]

    def __init__(
        self,
        *,
        count: int | None = 8,
        folder: str | None = None,
        opacity: float = 0.6,
        sheet_size: int = 12,
    ) -> None:
        if count is not None and count < 1:
            raise ValueError(
                f'{type(self).__name__} needs count >= 1, or None for every image, got {count}. To '
                'draw nothing, set default_hooks.pictures=None.'
            )
        self.count = count
        self.folder = folder
        self.opacity = opacity
        self.sheet_size = sheet_size
        self._rows: list[Picture] = []
        self._named: dict[str, list[str]] = {}

    def draw_sample(self, sample: Any, classes: Sequence[str], palette: Colours) -> Picture:
        """Returns the picture of one prediction, `(H, W, 3)` RGB."""
        raise NotImplementedError

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | list | None = None,
        outputs: Sequence | None = None,
    ) -> None:
        """Draws the chosen images of a validation batch."""
        self._draw(runner, runner.val_dataloader, batch_idx, outputs or (), 'val')

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | list | None = None,
        outputs: Sequence | None = None,
    ) -> None:
        """Draws the chosen images of a test batch."""
        self._draw(runner, runner.test_dataloader, batch_idx, outputs or (), 'test')

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Writes the sheet of this validation."""
        self._write_sheet(runner, f'val_iter_{runner.iter}', runner.val_dataloader)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Writes the sheet of the test."""
        self._write_sheet(runner, 'test', runner.test_dataloader)

    def _folder(self, runner: Runner) -> Path:
        return Path(self.folder or Path(runner.work_dir) / 'pictures')

    def _draw(
        self,
        runner: Runner,
        loader: DataLoader,
        batch_index: int,
        outputs: Sequence,
        split: str,
    ) -> None:
        # Other processes hold other images; one writer is enough to look at results.
        if not is_main_process():
            return
        wanted = self._wanted(len(loader))
        if batch_index not in wanted:
            return
        folder = self._folder(runner) / split
        folder.mkdir(parents=True, exist_ok=True)
        # One of each batch, so that `count` holds for any batch size.
        for sample in outputs if self.count is None else outputs[:1]:
            row = self.draw_sample(sample, *class_colours(loader))
            _write(folder / f'{self._name(sample.img_path)}.png', row)
            if len(self._rows) < self.sheet_size:
                self._rows.append(row)

    def _name(self, path: str) -> str:
        """The picture's own name, numbered where pictures of other folders have the same."""
        stem = Path(path).stem
        same = self._named.setdefault(stem, [])
        if path not in same:
            same.append(path)
        number = same.index(path)
        return f'{stem}_{number + 1}' if number else stem

    def _wanted(self, batches: int) -> set[int]:
        count = batches if self.count is None else min(self.count, batches)
        return {int(index) for index in np.linspace(0, batches - 1, count).round()}

    def _write_sheet(self, runner: Runner, name: str, loader: DataLoader) -> None:
        if not self._rows:
            return
        page = sheet(self._rows)
        strip = legend(*class_colours(loader), width=page.shape[1])
        path = self._folder(runner) / f'{name}.png'
        _write(path, np.vstack([page, strip]))
        runner.logger.info(f'Pictures ({self.CONTENT}): {path}')
        self._rows = []


def class_colours(loader: DataLoader) -> tuple[list[str], list[list[int]]]:
    """Returns name and RGB colour of each class of the data set behind `loader`."""
    dataset = loader.dataset
    while not isinstance(dataset, BaseDataset) and hasattr(dataset, 'dataset'):
        dataset = dataset.dataset
    metainfo = dataset.metainfo  # type: ignore[attr-defined]
    classes = list(metainfo['classes'])
    palette = [list(rgb) for rgb in metainfo.get('palette') or ()]
    missing = range(len(palette), len(classes))
    return classes, palette + [_spread_colour(index) for index in missing]


def _spread_colour(index: int) -> list[int]:
    """A colour for a class without one: neighbours in number are far apart in hue."""
    turn, ring = index % _COLOUR_STEPS, index // _COLOUR_STEPS
    hue = (turn * 180 // _COLOUR_STEPS + ring * 11) % 180
    pixel = np.array([[[hue, 255 - 60 * (ring % 3), 230 - 40 * (ring % 4)]]], np.uint8)
    return [int(level) for level in cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0]]


def read_picture(path: str) -> Picture:
    """Reads `(H, W, 3)` RGB as the model's loading does, from any storage of mmengine."""
    encoded = np.frombuffer(read_bytes(path), np.uint8)
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert image is not None, 'the model has just read the same file'
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8)


def _write(path: Path, picture: Picture) -> None:
    if not cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
        raise OSError(f'Could not write {path}. Is the disk full?')
