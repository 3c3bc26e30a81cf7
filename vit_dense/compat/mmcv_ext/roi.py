"""`roi_align_*` and `roi_pool_*` of `mmcv._ext`.

RoIAlign is torchvision's kernel, which computes what mmcv's does. RoIPool is written here:
torchvision rounds a region to whole pixels before it is divided into bins, mmcv does not.

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
    """Writes `(K, C, aligned_height, aligned_width)` averages of bilinear samples to `output`.

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
    """Writes the gradient with respect to the `(B, C, H, W)` input to `grad_input`.

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
    """Writes the maximum of each bin to `output`, its flat pixel index to `argmax`.

    A bin covers every pixel it touches; an empty one gives 0 and the index -1.
    """
    width = input.shape[-1]
    output.zero_()
    argmax.fill_(-1)
    columns = _bin_edges(rois[:, 1], rois[:, 3], pooled_width, spatial_scale, width)
    rows = _bin_edges(rois[:, 2], rois[:, 4], pooled_height, spatial_scale, input.shape[-2])
    images = rois[:, 0].long().tolist()
    for k, (image, k_rows, k_columns) in enumerate(zip(images, rows, columns, strict=True)):
        for px, (x1, x2) in enumerate(k_columns):
            if x1 >= x2 or all(y1 >= y2 for y1, y2 in k_rows):
                continue
            best, best_x = input[image, :, :, x1:x2].max(dim=-1)  # (C, H)
            for py, (y1, y2) in enumerate(k_rows):
                if y1 >= y2:
                    continue
                value, y = best[:, y1:y2].max(dim=-1)  # (C,)
                y = y + y1
                x = best_x.gather(1, y[:, None])[:, 0] + x1
                output[k, :, py, px] = value
                argmax[k, :, py, px] = (y * width + x).to(argmax.dtype)


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Adds each bin's gradient to the pixel that was its maximum, in `grad_input`."""
    images, channels = grad_input.shape[:2]
    planes = rois[:, :1].long() * channels + torch.arange(channels, device=rois.device)  # (K, C)
    flat = grad_input.view(images * channels, -1)
    index = planes[:, :, None] * flat.shape[1] + argmax.flatten(2).long()  # (K, C, bins)
    filled = (argmax >= 0).flatten(2)
    flat.view(-1).index_add_(0, index[filled], grad_output.flatten(2)[filled])


def _bin_edges(
    start: Tensor, end: Tensor, bins: int, scale: float, size: int
) -> list[list[tuple[int, int]]]:
    """Returns for each region the half-open pixel ranges of its bins along one axis."""
    first = start.float() * scale
    length = (end.float() + 1) * scale - first
    step = (length / bins)[:, None] * torch.arange(bins + 1, device=start.device)
    edges = first[:, None] + step
    low = edges[:, :-1].floor().clamp(0, size).long()
    high = edges[:, 1:].ceil().clamp(0, size).long()
    # mmcv leaves a region of no extent out: no bin of it holds a pixel.
    high = torch.where(length[:, None] > 0, high, low)
    return [list(zip(a, b, strict=True)) for a, b in zip(low.tolist(), high.tolist(), strict=True)]


def _compute_dtype(tensor: Tensor) -> torch.dtype:
    # torchvision's kernels know no bfloat16, and no float16 on CPU.
    return torch.promote_types(tensor.dtype, torch.float32)


def _require_average(pool_mode: int) -> None:
    if pool_mode != _AVERAGE:
        raise NotImplementedError(
            "mmcv op 'roi_align' got pool_mode 'max'; without compiled mmcv only 'avg' is "
            "supplied. Set pool_mode='avg' in the RoIAlign config, or install compiled mmcv."
        )
