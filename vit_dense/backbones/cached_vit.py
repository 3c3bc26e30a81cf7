"""CachedTimmViT: a frozen TimmViT that runs once for each image of a training.

The tokens after the blocks that an adapter takes ("taps") are kept on disk, so that training a head
costs the head. The cache changes nothing but the rounding to float16: the folder is named by a hash
of all weights and settings, the file by a hash of the normalised image, the device and its autocast
type. Files are renamed when they are complete: processes can share a folder, and a kill leaves no
part of an entry.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import timm
import torch
from mmengine.logging import print_log
from mmengine.registry import MODELS
from numpy.typing import NDArray
from torch import Tensor

from ..layers import GridSize
from ..version import __version__
from .timm_vit import TimmViT

_DESCRIPTION = 'description.json'


@MODELS.register_module()
class CachedTimmViT(TimmViT):
    """Drop-in replacement of a frozen `TimmViT`: `vit=dict(type='CachedTimmViT', model_name=...)`.

    For `PlainViT`, `SimpleFeaturePyramid` and `ViTAdapter(inject=False)`. `FeatureCacheHook` opens
    the cache while a training runs; at other times this is a `TimmViT`.
    """

    def __init__(
        self, model_name: str, *, cache_dir: str = 'work_dirs/features', **vit: Any
    ) -> None:
        """Build the ViT.

        Args:
            model_name: Name of a timm model.
            cache_dir: Folder of the cache, which several trainings can share at the same time.
            vit: Further arguments of `TimmViT`; `frozen_stages` may be left out.

        Raises:
            ValueError: If a part of the ViT is to be trained.
        """
        super().__init__(model_name, **vit)
        if self.frozen_stages not in (-1, self.depth):
            raise ValueError(
                f"frozen_stages={self.frozen_stages} with type='CachedTimmViT': only a frozen ViT "
                f"can be cached; set frozen_stages={self.depth}, or type='TimmViT'"
            )
        self.frozen_stages = self.depth
        self._freeze()
        self.cache_dir = cache_dir
        self.close_cache()

    def open_cache(self, images: int) -> None:
        """Keep and use taps from now on, in a training on this number of different images."""
        self._images, self._missed = images, 0
        self._state: tuple[Any, ...] = ()
        self._folder = Path(self.cache_dir)

    def close_cache(self) -> None:
        """Compute everything and write nothing from now on."""
        self.open_cache(0)

    @property
    def is_caching(self) -> bool:
        """Whether the cache is open, and the ViT still frozen."""
        return self._images > 0 and not any(one.requires_grad for one in self.parameters())

    @torch.compiler.disable
    def recall(
        self, image: Tensor, blocks: Sequence[int], compute: Callable[[Tensor], list[Tensor]]
    ) -> tuple[list[Tensor], GridSize]:
        """Return taps as `tap_blocks`, rounded to float16, and keep those that are new.

        `compute` returns the tokens (b, P + h*w, C) after each of `blocks` for b of the images.
        """
        folder = self._open_folder(tuple(blocks))
        kind = image.device.type
        halves = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        files = [folder / f'{digest(one, text=f"{kind} {halves}")}.npy' for one in image]
        entries: dict[Path, NDArray[np.float16]] = {}
        for file in files:
            with contextlib.suppress(OSError, ValueError, EOFError):  # new, or damaged
                entries[file] = np.load(file, mmap_mode='r')
        if new := {file: i for i, file in enumerate(files) if file not in entries}:
            taps = torch.stack(compute(image[list(new.values())]), 1)  # (b, taps, N, C)
            entries |= zip(new, _to_half(taps), strict=True)
            if self.training:
                self._count_missed(folder, len(new), 2 * taps[0].numel())
            try:
                for file in new:
                    _write(file, entries[file])
            except OSError as error:  # such as a full disk
                self._end(f'{folder} cannot be written: {error.strerror}.')
        batch = torch.from_numpy(np.stack([entries[file] for file in files], 1))  # (taps, B, N, C)
        h, w = (-(-edge // self.patch_size) for edge in image.shape[-2:])
        return list(batch.to(image.device, image.dtype)), (h, w)

    def _open_folder(self, blocks: tuple[int, ...]) -> Path:
        """Return the folder of the present weights; a checkpoint may have been loaded meanwhile."""
        tensors = self.model.state_dict(keep_vars=True).values()
        state = (blocks, [(one.data_ptr(), one._version) for one in tensors])
        if state == self._state:
            return self._folder
        names = ('model_name', 'model_kwargs', 'windows', 'final_norm')
        settings: dict[str, Any] = {name: getattr(self, name) for name in names}
        settings |= {'blocks': blocks, 'timm': timm.__version__, 'vit_dense': __version__}
        text = json.dumps(settings, default=str, indent=2)
        root, name = Path(self.cache_dir), self.model_name.rpartition('/')[2]
        self._state, self._folder = state, root / f'{name}-{digest(*tensors, text=text)}'
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if not (self._folder / _DESCRIPTION).exists():
                (self._folder / _DESCRIPTION).write_text(text)
        except OSError as error:
            raise ValueError(
                f'vit.cache_dir={self.cache_dir!r} cannot be written: {error.strerror}. Set it to '
                "a folder of yours, or set vit.type='TimmViT', which caches nothing."
            ) from error
        others = {one.parent.name for one in root.glob(f'*/{_DESCRIPTION}')} - {self._folder.name}
        if others:
            print_log(
                f'{root} has features of other weights or settings, which are not used: '
                f'{", ".join(sorted(others))}. Delete the folders that no other training needs.',
                logger='current',
            )
        return self._folder

    def _count_missed(self, folder: Path, count: int, size: int) -> None:
        """Check the disk before the first entry, of `size` bytes; close if images never return."""
        if not self._missed:
            _check_space(folder, size * self._images)
        self._missed += count
        if self._missed > self._images:
            self._end(
                f'The ViT was given more than {self._images} different images: they change after '
                'FixedViews, as by padding to the largest of a batch (for detectors, add '
                'BatchFixedSizePad).'
            )

    def _end(self, reason: str) -> None:
        """Compute everything from now on, which costs time and changes nothing else."""
        print_log(f'{reason} Caching ends.', logger='current', level=logging.WARNING)
        self.close_cache()


def digest(*tensors: Tensor, text: str = '') -> str:
    """Return a hash of the values, types and shapes of tensors, as 32 hexadecimal digits."""
    found = hashlib.sha256(text.encode())
    for one in tensors:
        found.update(f'{one.dtype}{tuple(one.shape)}'.encode())
        found.update(one.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()[:32]


def _to_half(taps: Tensor) -> NDArray[np.float16]:
    entries: NDArray[np.float16] = taps.half().cpu().numpy()
    if not np.isfinite(entries).all():
        raise ValueError(
            f'Features of up to {taps.abs().max():.3g} cannot be cached, as float16 ends at 65504: '
            "set vit.final_norm=True, which normalises them, or vit.type='TimmViT'."
        )
    return entries


def _write(file: Path, entry: NDArray[np.float16]) -> None:
    """Write an entry under a name of its own, and rename it when it is on the disk."""
    temporary = file.with_name(f'.{uuid4().hex}.tmp')
    try:
        with temporary.open('wb') as stream:
            np.save(stream, entry)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _check_space(folder: Path, needed: int) -> None:
    """Log how many bytes a training needs; raise `ValueError` if the disk lacks them."""
    present = sum(one.stat().st_size for one in folder.glob('*.npy'))
    free = shutil.disk_usage(folder).free
    text = (
        f'Features of the training images: {needed / 1e9:.2f} GB in {folder}, which has '
        f'{present / 1e9:.2f} GB; {free / 1e9:.2f} GB are free'
    )
    if needed - present > free:
        raise ValueError(
            f'{text}. Lower `views` in FixedViews, set vit.cache_dir to a larger disk, or set '
            "vit.type='TimmViT', which caches nothing."
        )
    print_log(text, logger='current')
