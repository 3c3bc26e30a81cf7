"""Random images with labels, to run a segmentor without data."""

from typing import Any

import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn


def random_batch(model: Any, size: tuple[int, int], batch_size: int) -> dict[str, Any]:
    """Return what a data loader gives to `model`: noise, labelled with all classes.

    Args:
        model: A segmentor of mmseg.
        size: Height and width in pixels.
        batch_size: Number of images.

    Returns:
        'inputs', uint8 tensors (C, H, W), and 'data_samples' with `gt_sem_seg` (1, H, W).
    """
    heads: Any = model.decode_head  # a cascade has several
    head: Any = heads[-1] if isinstance(heads, nn.ModuleList) else heads
    channels = getattr(model.data_preprocessor, 'mean', torch.zeros(3)).numel()
    generator = torch.Generator().manual_seed(0)
    inputs, samples = [], []
    for _ in range(batch_size):
        inputs.append(torch.randint(256, (channels, *size), generator=generator, dtype=torch.uint8))
        labels = torch.randint(int(head.num_classes), (1, *size), generator=generator)
        sample = SegDataSample(gt_sem_seg=PixelData(data=labels))
        sample.set_metainfo(
            {'img_shape': size, 'ori_shape': size, 'pad_shape': size, 'padding_size': [0] * 4}
        )
        samples.append(sample)
    return {'inputs': inputs, 'data_samples': samples}
