"""Save pictures of predictions at validation and test; a task draws one sample.

Pictures are an aid: an error while one is drawn or written becomes a single warning, and training
continues.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from ..data.pictures import Colours, Picture, legend, sheet
from .class_colours import class_colours
from .model_input import input_picture
from .normalization_check import reverses_channels
from .tracking import TrackerVisBackend
from .wrappers import iter_datasets, unwrap


class PicturesHook(Hook):
    """Write pictures below the work directory.

        work_dir/pictures/val/NAME.png        the parts of `CONTENT`, of the last validation
        work_dir/pictures/val_iter_300.png    all of them on one sheet with a legend
        work_dir/pictures/test/, test.png     the same for the test

    Args:
        count: Number of images, spread evenly over the data set; None draws every image. Under
            several processes the main one draws those of its share; with None, all draw theirs.
        folder: Where to write instead of `work_dir/pictures`.
        opacity: Share of the class colours over the image, 0..1.
        sheet_size: Maximum number of images on the sheet.

    Raises:
        ValueError: `count` is less than 1.
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
        if count is not None and (not isinstance(count, int) or count < 1):
            raise ValueError(
                f'{type(self).__name__} needs count >= 1, or None for every image, got {count!r}. '
                'To draw nothing, set default_hooks.pictures=None.'
            )
        self.count = count
        self.folder = folder
        self.opacity = opacity
        self.sheet_size = sheet_size
        self._rows: list[Picture] = []
        self._paths: dict[tuple[str, str], list[str]] = {}
        self._has_warned = False

    def draw_sample(
        self, image: Picture, sample: Any, classes: Sequence[str], palette: Colours
    ) -> Picture:
        """Return the picture of one prediction, `(H, W, 3)` RGB, over `image`."""
        raise NotImplementedError

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | list | None = None,
        outputs: Sequence | None = None,
    ) -> None:
        """Draw the chosen images of a validation batch."""
        with self._warn_once(runner, f'batch {batch_idx}'):
            self._draw(runner, runner.val_dataloader, batch_idx, data_batch, outputs, 'val')

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | list | None = None,
        outputs: Sequence | None = None,
    ) -> None:
        """Draw the chosen images of a test batch."""
        with self._warn_once(runner, f'batch {batch_idx}'):
            self._draw(runner, runner.test_dataloader, batch_idx, data_batch, outputs, 'test')

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Write the sheet of this validation."""
        self._write_sheet(runner, f'val_iter_{runner.iter}', runner.val_dataloader, tracked='val')

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Write the sheet of the test."""
        self._write_sheet(runner, 'test', runner.test_dataloader)

    def _folder(self, runner: Runner) -> Path:
        return Path(self.folder or Path(runner.work_dir) / 'pictures')

    def _draw(
        self,
        runner: Runner,
        loader: DataLoader,
        batch_index: int,
        batch: Any,
        outputs: Sequence | None,
        split: str,
    ) -> None:
        outputs = () if outputs is None else outputs
        is_main = is_main_process()
        if not is_main and self.count is not None:
            return
        if batch_index not in self._wanted(len(loader)):
            return
        inputs = batch.get('inputs') if isinstance(batch, dict) else None
        inputs = inputs if inputs is not None and len(inputs) == len(outputs) else [None]
        reverse = reverses_channels(unwrap(runner.model) if hasattr(runner, 'model') else None)
        # One image of each batch, so that `count` holds for any batch size.
        for index, sample in enumerate(outputs if self.count is None else outputs[:1]):
            path = sample.get('img_path', f'{batch_index}_{index}')
            with self._warn_once(runner, path):
                given = inputs[index] if index < len(inputs) else None
                image = input_picture(sample, given, reverse=reverse)
                row = self.draw_sample(image, sample, *class_colours(loader))
                name = self._name(path, split, loader)
                _write(self._folder(runner) / split / f'{name}.png', row)
                if is_main and len(self._rows) < self.sheet_size:
                    self._rows.append(row)

    def _name(self, path: str, split: str, loader: DataLoader) -> str:
        """Return the file's stem, numbered if images in other folders have the same one."""
        if not self._paths and get_world_size() > 1:
            # Processes must agree on the numbers, so each goes through the whole data set.
            for other in _image_paths(loader):
                self._number(other, split)
        number, stem = self._number(path, split), Path(path).stem
        return f'{stem}_{number + 1}' if number else stem

    def _number(self, path: str, split: str) -> int:
        same = self._paths.setdefault((split, Path(path).stem), [])
        if path not in same:
            same.append(path)
        return same.index(path)

    def _wanted(self, batches: int) -> set[int]:
        count = batches if self.count is None else min(self.count, batches)
        return {int(index) for index in np.linspace(0, batches - 1, count).round()}

    def _write_sheet(
        self, runner: Runner, name: str, loader: DataLoader, *, tracked: str | None = None
    ) -> None:
        if not self._rows:
            return
        path = self._folder(runner) / f'{name}.png'
        with self._warn_once(runner, str(path)):
            page = sheet(self._rows)
            strip = legend(*class_colours(loader), width=page.shape[1])
            page = np.vstack([page, strip])
            _write(path, page)
            runner.logger.info(f'Pictures ({self.CONTENT}): {path}')
            for backend in runner.visualizer._vis_backends.values() if tracked else ():
                if isinstance(backend, TrackerVisBackend):
                    backend.add_image(f'pictures/{tracked}', page, runner.iter)
        self._rows = []

    @contextmanager
    def _warn_once(self, runner: Runner, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever it is, the training is worth more than a picture
            if not self._has_warned:
                runner.logger.warning(
                    f'{type(self).__name__} cannot draw {what}: {type(error).__name__}: {error}. '
                    'It leaves out what it cannot draw, without further warnings.'
                )
            self._has_warned = True


def _image_paths(loader: DataLoader) -> Iterator[str]:
    for dataset in iter_datasets(loader.dataset):
        for index in range(len(dataset)):
            path = dataset.get_data_info(index).get('img_path')
            if path is not None:
                yield path


def _write(path: Path, picture: Picture) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
        raise OSError(f'OpenCV cannot write {path}')
