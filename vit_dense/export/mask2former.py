"""Mask2Former's pixel decoder with sizes that are Python numbers.

mmdet's decoder keeps the sizes of its maps in tensors, so that its splits depend on values and
cannot be traced. Here they are the shapes of the maps; the layers are the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops import ms_deform_attn


@contextmanager
def static_sizes(head: Any) -> Iterator[None]:
    """Run a `Mask2FormerHead` that can be traced."""
    decoder = head.pixel_decoder
    decoder.forward = MethodType(_decode, decoder)
    try:
        yield
    finally:
        del decoder.forward


def _decode(decoder: Any, feats: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Return mask features `(B, C, h, w)` and the maps of all levels, as mmdet's decoder."""
    queries, positions, points, shapes = [], [], [], []
    for i in range(decoder.num_encoder_levels):
        level = decoder.num_input_levels - i - 1
        feat = feats[level]
        h, w = int(feat.shape[-2]), int(feat.shape[-1])
        mask = feat.new_zeros((feat.shape[0], h, w), dtype=torch.bool)
        position = decoder.postional_encoding(mask)  # mmdet's spelling
        position = decoder.level_encoding.weight[i].view(1, -1, 1, 1) + position
        grid = decoder.point_generator.single_level_grid_priors((h, w), level, device=feat.device)
        stride = decoder.strides[level]
        stride = stride if isinstance(stride, tuple) else (stride, stride)
        points.append(grid / grid.new_tensor([w * stride[0], h * stride[1]]))
        queries.append(decoder.input_convs[i](feat).flatten(2).permute(0, 2, 1))
        positions.append(position.flatten(2).permute(0, 2, 1))
        shapes.append((h, w))
    memory, position, reference = torch.cat(queries, 1), torch.cat(positions, 1), torch.cat(points)
    for layer in decoder.encoder.layers:
        memory = _layer(layer, memory, position, reference, shapes)
    parts = memory.permute(0, 2, 1).split([h * w for h, w in shapes], dim=-1)
    outs = [part.unflatten(-1, shape) for part, shape in zip(parts, shapes, strict=True)]
    for i in reversed(range(decoder.num_input_levels - decoder.num_encoder_levels)):
        lateral = decoder.lateral_convs[i](feats[i])
        upper = F.interpolate(
            outs[-1], size=lateral.shape[-2:], mode='bilinear', align_corners=False
        )
        outs.append(decoder.output_convs[i](lateral + upper))
    return decoder.mask_feature(outs[-1]), outs[: decoder.num_outs]


def _layer(
    layer: Any, x: Tensor, position: Tensor, reference: Tensor, shapes: list[tuple[int, int]]
) -> Tensor:
    """Run an encoder layer: deformable attention, norm, feed-forward, norm."""
    x = layer.norms[0](x + _attention(layer.self_attn, x, position, reference, shapes))
    return layer.norms[1](layer.ffn(x))


def _attention(
    attn: Any, x: Tensor, position: Tensor, reference: Tensor, shapes: list[tuple[int, int]]
) -> Tensor:
    query = x + position
    layout = (*query.shape[:2], attn.num_heads, attn.num_levels, attn.num_points)
    value = attn.value_proj(x).unflatten(-1, (attn.num_heads, -1))
    offsets = attn.sampling_offsets(query).view(*layout, 2)
    weights = attn.attention_weights(query).view(*layout[:3], -1).softmax(-1).view(layout)
    cells = reference.new_tensor([[w, h] for h, w in shapes])[:, None]  # (levels, 1, 2)
    locations = reference[:, None, None, None] + offsets / cells
    return attn.output_proj(ms_deform_attn(value, shapes, locations, weights))
