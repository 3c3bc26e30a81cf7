"""What a data set does about files that are missing, empty or damaged when they are loaded."""

import logging
from typing import Any

import torch
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from ..data.image_files import BadFileError
from .load_image import use_checked_loading
from .wrappers import iter_datasets


class BadFilesMixin(BaseDataset):
    """Base of data sets that name such files, or pass over them; to inherit from first.

    Args:
        bad_files: 'error'; or 'skip': in training, take another sample instead, with a warning
            for each file. In validation and test it is an error in any case, because a figure of
            fewer samples would be another one.
        pipeline: Of the data set; images are loaded by `LoadCheckedImage`.
        options: Arguments of the next class.
    """

    _skipped: torch.Tensor | None = None

    def __init__(self, *, bad_files: str = 'error', pipeline: Any = (), **options: Any) -> None:
        if bad_files not in ('error', 'skip'):
            raise ValueError(f"bad_files={bad_files!r}: allowed are 'error' and 'skip'.")
        self.bad_files = bad_files
        super().__init__(pipeline=use_checked_loading(pipeline), **options)

    def full_init(self) -> None:
        """Read the list of samples; the workers share the record of those passed over."""
        super().full_init()
        if self.bad_files == 'skip' and self._skipped is None:
            self._skipped = torch.zeros(len(self), dtype=torch.bool).share_memory_()

    def prepare_data(self, idx: int) -> Any:
        """Load and transform sample `idx`; return None if it is passed over.

        Raises:
            ValueError: A file of the sample is bad, or more than half of the samples are.
        """
        try:
            return super().prepare_data(idx)
        except BadFileError as error:
            if self.bad_files == 'error' or self.test_mode or self._skipped is None:
                raise ValueError(
                    f"{error}. Replace or remove the file; bad_files='skip' passes over it, in "
                    'training data sets.'
                ) from error
            if self._skipped[idx]:
                return None
            self._skipped[idx] = True
            count, total = int(self._skipped.sum()), len(self)
            if 2 * count > total:
                raise ValueError(
                    f'{error}. More than half of the {total} samples cannot be loaded. Correct '
                    'data_root and data_prefix, or replace the files.'
                ) from error
            print_log(
                f"{error}. Passed over (bad_files='skip'); {count} of {total} samples so far.",
                logger='current',
                level=logging.WARNING,
            )
            return None


def evaluate_all_samples(dataset: Any) -> None:
    """Make bad files an error in the data sets inside `dataset`, for validation and test."""
    for part in iter_datasets(dataset):
        if isinstance(part, BadFilesMixin):
            part.bad_files = 'error'
