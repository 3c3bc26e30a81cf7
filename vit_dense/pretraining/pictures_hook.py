"""Save pictures of what a masked autoencoder sees and makes of it."""

from typing import Any, ClassVar

import numpy as np
import torch
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from ..data.pictures import Picture, side_by_side
from ..engine.model_input import to_picture
from ..engine.pictures_hook import PicturesHook
from ..engine.sharded_runner import ShardedRunner
from ..engine.wrappers import unwrap


@HOOKS.register_module()
class ReconstructionPicturesHook(PicturesHook):
    """Draw training images whenever a checkpoint is saved, with the same crops and masks each time.

    They are in `work_dir/pictures/iter_300.png`. Arguments of `PicturesHook`.
    """

    CONTENT: ClassVar[str] = 'original, masked, reconstruction'

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Draw and write; the main process alone saves."""
        if isinstance(runner, ShardedRunner):  # whose processes run the model together
            return
        loader, model = runner.train_dataloader, unwrap(runner.model)
        with self._warn_once(runner, 'reconstructions'), torch.random.fork_rng(devices=[]):
            for index in sorted(self._wanted(len(loader.dataset)))[: self.sheet_size]:
                torch.manual_seed(index)
                self._rows.append(draw_reconstruction(model, loader.dataset[index]['inputs']))
        self._write_sheet(runner, f'iter_{checkpoint["meta"]["iter"]}', loader, tracked='train')

    def _draw(self, *args: Any) -> None:
        """Draw nothing at validation."""


def draw_reconstruction(model: Any, image: Tensor) -> Picture:
    """Return an image (C, H, W), what the encoder sees of it, and its reconstruction."""
    given = model.data_preprocessor({'inputs': [image]})['inputs']
    is_training = model.training
    model.eval()  # without stochastic depth
    try:
        predicted, mask = model.reconstruct(given)
    finally:  # the hook goes on after an error
        model.train(is_training)
    for axis in (1, 2):  # (1, h, w) to (1, H, W)
        mask = mask.repeat_interleave(model.vit.patch_size, axis)
    low, high = float(given.min()), float(given.max())
    masked = given.masked_fill(mask[:, None], (low + high) / 2)
    row = torch.cat([given, masked, predicted], 3)[0].clamp(low, high)  # one range for all three
    row = row * model.data_preprocessor.std + model.data_preprocessor.mean
    picture = to_picture(row.permute(1, 2, 0).cpu().numpy(), reverse=False)
    return side_by_side(np.split(picture, 3, axis=1))
