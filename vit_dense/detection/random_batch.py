"""Random images with objects, to run a detector without data."""

from typing import Any

import torch
from mmdet.testing import demo_mm_inputs

OBJECTS = 10  # in each image


def random_batch(model: Any, size: tuple[int, int], batch_size: int) -> dict[str, Any]:
    """Return what a data loader gives to `model`: noise, with `OBJECTS` boxes and masks an image.

    Args:
        model: A detector of mmdet.
        size: Height and width in pixels.
        batch_size: Number of images.

    Returns:
        'inputs', uint8 tensors (C, H, W), and 'data_samples' with `gt_instances`, all of class 0.
    """
    channels = getattr(model.data_preprocessor, 'mean', torch.zeros(3)).numel()
    batch: dict[str, Any] = demo_mm_inputs(
        batch_size, (channels, *size), num_items=[OBJECTS] * batch_size, with_mask=True
    )
    for sample in batch['data_samples']:
        sample.gt_instances.labels.zero_()
        sample.set_metainfo({'pad_shape': size, 'batch_input_shape': size})
    return batch
