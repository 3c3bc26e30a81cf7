"""Saves what the model sees: input, truth and prediction side by side, at validation and test."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.dist import is_main_process
from mmengine.fileio import get as read_bytes
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmseg.structures import SegDataSample
from torch.utils.data import DataLoader

from ..datasets.pictures import Picture, legend, overlay, sheet, side_by_side


@HOOKS.register_module()
class SegPicturesHook(Hook):
    """Writes pictures below the work directory.

        work_dir/pictures/val/NAME.png        input | truth | prediction, of the last validation
        work_dir/pictures/val_iter_300.png    all of them on one sheet with a legend
        work_dir/pictures/test/, test.png     the same for the test

    Args:
        count: How many images, spread evenly over the data set; None takes every image.
        folder: Where to write instead of `work_dir/pictures`.
        opacity: Share of the class colours over the image, 0..1.
        sheet_size: At most so many images on the sheet.
    """

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
                f'SegPicturesHook needs count >= 1, or None for every image, got {count}. To draw '
                'nothing, set default_hooks.pictures=None.'
            )
        self.count = count
        self.folder = folder
        self.opacity = opacity
        self.sheet_size = sheet_size
        self._rows: list[Picture] = []

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | list | None = None,
        outputs: Sequence[SegDataSample] | None = None,
    ) -> None:
        """Draws the chosen images of a validation batch."""
        self._draw(runner, runner.val_dataloader, batch_idx, outputs or (), 'val')

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | list | None = None,
        outputs: Sequence[SegDataSample] | None = None,
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
        outputs: Sequence[SegDataSample],
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
            row = draw_sample(sample, class_colours(loader)[1], opacity=self.opacity)
            _write(folder / f'{Path(sample.img_path).stem}.png', row)
            if len(self._rows) < self.sheet_size:
                self._rows.append(row)

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
        runner.logger.info(f'Pictures (input, truth, prediction): {path}')
        self._rows = []


def class_colours(loader: DataLoader) -> tuple[list[str], list[list[int]]]:
    """Returns name and RGB colour of each class of the data set behind `loader`."""
    dataset = cast(BaseDataset, loader.dataset)
    return list(dataset.metainfo['classes']), [list(rgb) for rgb in dataset.metainfo['palette']]


def draw_sample(
    sample: SegDataSample, palette: Sequence[Sequence[int]], *, opacity: float
) -> Picture:
    """Returns input, truth (where there is one) and prediction side by side, RGB."""
    encoded = np.frombuffer(read_bytes(sample.img_path), np.uint8)
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert image is not None, 'the model has just read the same file'
    pictures = [cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8)]
    for key in ('gt_sem_seg', 'pred_sem_seg'):
        if key in sample:
            labels = sample.get(key).data.squeeze(0).cpu().numpy()
            pictures.append(overlay(pictures[0], labels, palette, opacity=opacity))
    return side_by_side(pictures)


def _write(path: Path, picture: Picture) -> None:
    if not cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
        raise OSError(f'Could not write {path}. Is the disk full?')
