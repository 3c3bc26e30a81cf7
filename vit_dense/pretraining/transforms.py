"""Images of any number of bands, with masks for the probe, from files to normalised tensors.

Between loading and packing, configs name transforms of `torchvision.transforms.v2` by their path.
They take random numbers from PyTorch's generator, which `StepSeedHook` seeds for each sample.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.model import ImgDataPreprocessor
from mmengine.registry import MODELS, TRANSFORMS
from mmengine.structures import BaseDataElement
from torch import Tensor
from torchvision.transforms.v2.functional import to_image
from torchvision.tv_tensors import Mask

from ..data.folder_checks import check_size
from ..data.masks import decode_mask, read_mask
from ..engine.ridge import VOID


@TRANSFORMS.register_module()
class LoadProbeMask(BaseTransform):
    """Load a mask as labels for torchvision's transforms, `VOID` where there is no class.

    Args:
        label_map: As of `CheckedSegDataset`, as are the others.
        colours: RGB of each class, for masks in colours.
        ignore_index: Value of pixels without a class.
    """

    def __init__(
        self,
        *,
        label_map: Mapping[int, int] | None = None,
        colours: Sequence[Sequence[int]] | None = None,
        ignore_index: int = 255,
    ) -> None:
        self.label_map, self.colours, self.ignore_index = label_map, colours, ignore_index

    def transform(self, results: dict) -> dict:
        """Load `results['seg_map_path']` into 'gt_seg_map', an int64 tensor (H, W)."""
        path = results['seg_map_path']
        values = read_mask(path, as_colours=self.colours is not None)
        check_size(path, values.shape[:2], results['img_path'], results['ori_shape'])
        labels = decode_mask(
            values,
            label_map=self.label_map,
            colours=self.colours,
            ignore_index=self.ignore_index,
            name=f'The mask {path}',
        ).astype(np.int64)
        labels[labels == self.ignore_index] = VOID
        return results | {'gt_seg_map': Mask(labels)}


@TRANSFORMS.register_module()
class PackImage(BaseTransform):
    """Pack the image as 'inputs', `(C, H, W)`, and its path and labels as 'data_samples'."""

    def transform(self, results: dict) -> dict:
        """Return what the model takes."""
        sample = BaseDataElement(metainfo={'img_path': results['img_path']})
        if 'gt_seg_map' in results:
            sample.labels = results['gt_seg_map'].as_subclass(Tensor)
        image = to_image(results['img'])  # of arrays (H, W, C); tensors remain as they are
        return {'inputs': image.as_subclass(Tensor), 'data_samples': sample}


@MODELS.register_module()
class BandsPreprocessor(ImgDataPreprocessor):
    """mmengine's preprocessor for any number of bands, each with its mean and standard deviation.

    Only images of three bands are reversed, as loaders give B, G, R.
    """

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], *, bgr_to_rgb: bool = True
    ) -> None:
        super().__init__([0.0], [1.0], bgr_to_rgb=bgr_to_rgb and len(mean) == 3)
        self.mean, self.std = (torch.tensor(one).float().view(-1, 1, 1) for one in (mean, std))
