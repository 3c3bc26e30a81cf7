"""What the tests of mmcv's ops share: dtypes, boxes, and the comparison with gradients."""

from collections.abc import Sequence

import torch
from torch import Tensor

HALVES = [torch.float16, torch.bfloat16]
DTYPES = [torch.float32, torch.float64, *HALVES]


def random_boxes(count: int, extent: float = 20.0) -> Tensor:
    """Overlapping boxes of 2 to 17 px, `(count, 4)`."""
    corner = torch.rand(count, 2) * extent
    return torch.cat([corner, corner + 2 + torch.rand(count, 2) * 15], dim=1)


def iou(a: Sequence[float], b: Sequence[float], offset: int = 0) -> float:
    """Intersection over union by its definition, mmcv's legacy measure with offset 1."""
    width = max(min(a[2], b[2]) - max(a[0], b[0]) + offset, 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]) + offset, 0)
    areas = [(c[2] - c[0] + offset) * (c[3] - c[1] + offset) for c in (a, b)]
    return width * height / (sum(areas) - width * height)


def assert_same_with_grads(out: Tensor, expected: Tensor, inputs: Sequence[Tensor]) -> None:
    """Compares values and, under random weights, the gradients of every input."""
    torch.testing.assert_close(out, expected)
    weight = torch.randn_like(out)
    grads = torch.autograd.grad((out * weight).sum(), inputs)
    expected_grads = torch.autograd.grad((expected * weight).sum(), inputs)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        assert expected_grad.abs().max() > 0
        torch.testing.assert_close(grad, expected_grad)
