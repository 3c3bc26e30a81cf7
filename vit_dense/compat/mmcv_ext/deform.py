"""Deformable convolution (v1, v2) and deformable attention of `mmcv._ext`.

The convolutions are torchvision's kernels, whose layout of offsets and masks is mmcv's. Buffers
and step sizes of mmcv's im2col (`columns`, `ones`, `im2col_step`) are not used here.
"""

import torch
from torch import Tensor

__all__ = [
    'deform_conv_backward_input',
    'deform_conv_backward_parameters',
    'deform_conv_forward',
    'modulated_deform_conv_backward',
    'modulated_deform_conv_forward',
    'ms_deform_attn_backward',
    'ms_deform_attn_forward',
]

# mmcv's names of stride, padding, dilation and groups, in the order torchvision wants. The kernel
# size, which mmcv passes too, is the weight's.
_V1 = ('dH', 'dW', 'padH', 'padW', 'dilationH', 'dilationW', 'group', 'deformable_group')
_V2 = (
    'stride_h',
    'stride_w',
    'pad_h',
    'pad_w',
    'dilation_h',
    'dilation_w',
    'group',
    'deformable_group',
)


class _Conv:
    """One deformable convolution: its tensors and geometry, in the order torchvision wants."""

    def __init__(
        self,
        input: Tensor,
        weight: Tensor,
        offset: Tensor,
        mask: Tensor | None,
        bias: Tensor | None,
        geometry: tuple[int, ...],
    ) -> None:
        # torchvision's kernels have no bfloat16, and no float16 on CPUs.
        dtype = torch.promote_types(input.dtype, torch.float32)
        if mask is None:
            mask = input.new_zeros(len(input), 1)
        if bias is None:
            bias = input.new_zeros(len(weight))
        self.use_mask = mask.dim() > 2
        self.tensors = [x.to(dtype) for x in (input, weight, offset, mask, bias)]
        self.geometry = geometry

    def forward(self) -> Tensor:
        return torch.ops.torchvision.deform_conv2d(*self.tensors, *self.geometry, self.use_mask)

    def backward(self, grad_output: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return the gradients of input, weight, offset, mask and bias."""
        return torch.ops.torchvision._deform_conv2d_backward(
            grad_output.to(self.tensors[0].dtype), *self.tensors, *self.geometry, self.use_mask
        )


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    *,
    im2col_step: int,
    **geometry: int,
) -> None:
    """Write the deformable convolution (v1, no mask, no bias) to `output`."""
    output.copy_(_Conv(input, weight, offset, None, None, _pick(geometry, _V1)).forward())


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    *,
    im2col_step: int,
    **geometry: int,
) -> None:
    """Write the gradients of input and offsets (v1)."""
    conv = _Conv(input, weight, offset, None, None, _pick(geometry, _V1))
    of_input, _, of_offset, _, _ = conv.backward(grad_output)
    grad_input.copy_(of_input)
    grad_offset.copy_(of_offset)


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    *,
    scale: float,
    im2col_step: int,
    **geometry: int,
) -> None:
    """Add `scale` times the gradient of the weight (v1) to `grad_weight`."""
    conv = _Conv(input, grad_weight, offset, None, None, _pick(geometry, _V1))
    grad_weight.add_(conv.backward(grad_output)[1].to(grad_weight.dtype), alpha=scale)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    *,
    with_bias: bool,
    **geometry: int,
) -> None:
    """Write the modulated deformable convolution (v2) to `output`."""
    used_bias = bias if with_bias else None
    output.copy_(_Conv(input, weight, offset, mask, used_bias, _pick(geometry, _V2)).forward())


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    *,
    with_bias: bool,
    **geometry: int,
) -> None:
    """Write all gradients of the modulated deformable convolution (v2)."""
    used_bias = bias if with_bias else None
    conv = _Conv(input, weight, offset, mask, used_bias, _pick(geometry, _V2))
    grads = conv.backward(grad_output)
    outputs = (grad_input, grad_weight, grad_offset, grad_mask)
    for output, grad in zip(outputs, grads[:4], strict=True):
        output.copy_(grad)
    if with_bias:
        grad_bias.copy_(grads[4])


def ms_deform_attn_forward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    *,
    im2col_step: int,
) -> Tensor:
    """Compute multi-scale deformable attention by the op of this package; shapes as there."""
    # Imported late: this module loads with mmcv, the op is part of the core.
    from ...ops.ms_deform_attn import ms_deform_attn

    shapes = [(int(h), int(w)) for h, w in spatial_shapes.tolist()]
    return ms_deform_attn(value, shapes, sampling_locations, attention_weights).to(value.dtype)


def ms_deform_attn_backward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    *,
    im2col_step: int,
) -> None:
    """Write the gradients of values, sampling locations and attention weights."""
    inputs = [x.detach().requires_grad_() for x in (value, sampling_locations, attention_weights)]
    with torch.enable_grad():
        output = ms_deform_attn_forward(
            inputs[0],
            spatial_shapes,
            level_start_index,
            inputs[1],
            inputs[2],
            im2col_step=im2col_step,
        )
    grads = torch.autograd.grad(output, inputs, grad_output)
    outputs = (grad_value, grad_sampling_loc, grad_attn_weight)
    for target, grad in zip(outputs, grads, strict=True):
        target.copy_(grad)


def _pick(geometry: dict[str, int], names: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(geometry[name] for name in names)
