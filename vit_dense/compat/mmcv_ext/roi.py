"""`roi_align_*` and `roi_pool_*` of `mmcv._ext`.

RoIAlign is torchvision's kernel, which computes what mmcv's does. RoIPool differs: torchvision
rounds a region to whole pixels before it divides it into bins, mmcv does not. So the bins are laid
out here, and torchvision's kernel takes the maximum of each.

All regions are `(K, 5)`: image index, then corners `x1, y1, x2, y2` in input pixels.
"""

import torch
from torch import Tensor

__all__ = ['roi_align_backward', 'roi_align_forward', 'roi_pool_backward', 'roi_pool_forward']

_AVERAGE = 1  # mmcv's pool_mode: 0 is 'max', 1 is 'avg'


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write `(K, C, aligned_height, aligned_width)` averages of bilinear samples to `output`.

    `argmax_y` and `argmax_x` belong to max pooling, which is not supplied.

    Raises:
        NotImplementedError: For max pooling.
    """
    _require_average(pool_mode)
    dtype = _compute_dtype(input)
    output.copy_(
        torch.ops.torchvision.roi_align(
            input.to(dtype),
            rois.to(dtype),
            spatial_scale,
            aligned_height,
            aligned_width,
            sampling_ratio,
            aligned,
        )
    )


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the gradient with respect to the `(B, C, H, W)` input to `grad_input`.

    Raises:
        NotImplementedError: For max pooling.
    """
    _require_average(pool_mode)
    dtype = _compute_dtype(grad_output)
    grad_input.copy_(
        torch.ops.torchvision._roi_align_backward(
            grad_output.to(dtype),
            rois.to(dtype),
            spatial_scale,
            aligned_height,
            aligned_width,
            *grad_input.shape,
            sampling_ratio,
            aligned,
        )
    )


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Write the maximum of each bin to `output`, its flat pixel index to `argmax`.

    A bin covers every pixel it touches; an empty one gives 0 and the index -1.
    """
    height, width = input.shape[-2:]
    left, right = _bin_edges(rois[:, 1], rois[:, 3], pooled_width, spatial_scale, width)
    top, bottom = _bin_edges(rois[:, 2], rois[:, 4], pooled_height, spatial_scale, height)
    shape = (len(rois), pooled_height, pooled_width)
    image = rois[:, 0, None, None].to(left)
    corners = (image, left[:, None], top[:, :, None], right[:, None] - 1, bottom[:, :, None] - 1)
    # Whole pixels from here on: each bin is a region of its own, of one bin.
    bins = torch.stack([x.expand(shape).flatten() for x in corners], dim=1)
    dtype = _compute_dtype(input)
    best, index = torch.ops.torchvision.roi_pool(input.to(dtype), bins.to(dtype), 1.0, 1, 1)
    is_empty = ((bottom <= top)[:, :, None] | (right <= left)[:, None])[:, None]  # (K, 1, ph, pw)
    best, index = (x.view(*shape, input.shape[1]).permute(0, 3, 1, 2) for x in (best, index))
    output.copy_(best.masked_fill(is_empty, 0))
    argmax.copy_(index.masked_fill(is_empty, -1))


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Add each bin's gradient to the pixel that was its maximum, in `grad_input`."""
    _, channels, height, width = grad_input.shape
    planes = rois[:, :1].long() * channels + torch.arange(channels, device=rois.device)  # (K, C)
    index = planes[:, :, None] * (height * width) + argmax.flatten(2).long()  # (K, C, bins)
    filled = (argmax >= 0).flatten(2)
    # Many regions may share a pixel: their sum is taken in at least single precision.
    flat = grad_input.to(_compute_dtype(grad_input)).flatten()
    flat.index_add_(0, index[filled], grad_output.flatten(2)[filled].to(flat.dtype))
    grad_input.copy_(flat.view_as(grad_input))


def _bin_edges(
    start: Tensor, end: Tensor, bins: int, scale: float, size: int
) -> tuple[Tensor, Tensor]:
    """Return the first pixel of each bin along one axis and the end, both `(K, bins)`."""
    dtype = _compute_dtype(start)
    first = start.to(dtype) * scale
    length = (end.to(dtype) + 1) * scale - first
    step = (length / bins)[:, None] * torch.arange(bins + 1, device=start.device)
    edges = first[:, None] + step
    low = edges[:, :-1].floor().clamp(0, size)
    high = edges[:, 1:].ceil().clamp(0, size)
    # As in mmcv, the bins of an empty region hold no pixel.
    return low, torch.where(length[:, None] > 0, high, low)


def _compute_dtype(tensor: Tensor) -> torch.dtype:
    # torchvision's kernels have no bfloat16, and no float16 on CPUs.
    return torch.promote_types(tensor.dtype, torch.float32)


def _require_average(pool_mode: int) -> None:
    if pool_mode != _AVERAGE:
        raise NotImplementedError(
            "mmcv op 'roi_align' got pool_mode 'max'; without compiled mmcv only 'avg' is "
            "supplied. Set pool_mode='avg' in the RoIAlign config, or install compiled mmcv."
        )
