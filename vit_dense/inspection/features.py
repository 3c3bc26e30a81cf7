"""Features as colours: the first three principal components of a map."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.pictures import Picture

# Shares of the values below and above which a component has its darkest and brightest colour.
_RANGE = (0.02, 0.98)


def principal_colours(feature_map: Tensor) -> Picture:
    """Return the first three principal components of a map as red, green and blue.

    Each component has the sign for which fewer cells are bright than dark (positive skewness), so
    that equal maps give equal pictures.

    Args:
        feature_map: (C, h, w); leave cells of padding out.

    Returns:
        (h, w, 3) uint8. Components without variance are grey.
    """
    cells = feature_map.detach().flatten(1).T.double().cpu()  # (h*w, C)
    cells = cells - cells.mean(0)
    _, directions = torch.linalg.eigh(cells.T @ cells)  # by rising variance
    components = cells @ directions.flip(1)[:, :3]  # (h*w, up to 3)
    components = components * torch.where((components**3).sum(0) < 0, -1.0, 1.0)
    low, high = torch.quantile(components, torch.tensor(_RANGE, dtype=torch.double), dim=0)
    is_flat = high - low <= 1e-6 * cells.abs().max()
    levels = ((components - low) / torch.where(is_flat, 1.0, high - low)).clamp(0, 1)
    levels[:, is_flat] = 0.5
    colours = torch.full((len(cells), 3), 0.5)
    colours[:, : levels.shape[1]] = levels.float()
    height, width = feature_map.shape[-2:]
    return (colours * 255).round().to(torch.uint8).numpy().reshape(height, width, 3)


def inside(feature_map: Tensor, stride: int, shown: tuple[int, int]) -> Tensor:
    """Return the cells (..., h, w) of a map that cover the upper left `shown` (H, W) pixels."""
    return feature_map[..., : -(-shown[0] // stride), : -(-shown[1] // stride)]


def to_image(
    cells: NDArray[Any],
    stride: int,
    shown: tuple[int, int],
    size: tuple[int, int],
    *,
    smooth: bool = False,
) -> NDArray[Any]:
    """Enlarge cells of a map to the picture that they cover.

    Args:
        cells: (h, w) or (h, w, 3); cell (i, j) covers the pixels i * stride to (i + 1) * stride of
            what the model was given.
        stride: Edge of a cell.
        shown: (H, W) of the image in what the model was given, at its upper left; the rest is
            padding.
        size: (H, W) of the picture to return.
        smooth: Interpolate between the cells.
    """
    scale_y, scale_x = size[0] / shown[0], size[1] / shown[1]
    # pixel centres of the picture, in cells
    y = ((np.arange(size[0]) + 0.5) / scale_y / stride - 0.5).astype(np.float32)
    x = ((np.arange(size[1]) + 0.5) / scale_x / stride - 0.5).astype(np.float32)
    grid_x, grid_y = np.meshgrid(x, y)
    if not smooth:
        grid_x, grid_y = np.floor(grid_x + 0.5), np.floor(grid_y + 0.5)
    method = cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST
    enlarged: NDArray[Any] = cv2.remap(
        np.ascontiguousarray(cells), grid_x, grid_y, method, borderMode=cv2.BORDER_REPLICATE
    )
    return enlarged
