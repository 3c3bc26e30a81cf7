"""Fitting tensors whose size follows from the image and patch size rather than the network.

Position grids (square or not, with any number of prefix slots), patch kernels, input channels and
SAM's one-dimensional relative tables. Interpolation is timm's own: bicubic, antialiased unless
told otherwise (the released ViT-Adapter weights were trained without).
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed, resample_abs_pos_embed_nhwc, resample_patch_embed
from timm.models import adapt_input_conv
from torch import Tensor, nn

__all__ = ['fit_channels', 'fit_kernel', 'fit_line_tables', 'fit_positions']

_KERNEL = 'patch_embed.proj.weight'


def fit_positions(
    state: dict[str, Tensor],
    model: nn.Module,
    *,
    antialias: bool,
    pos_grid: tuple[int, int] | None,
) -> str:
    """Resize `state['pos_embed']` to the model's grid and layout of prefix slots, in place.

    A slot in front of the grid belongs to a prefix token (cls, distillation, registers). Models
    differ in having such slots; since position and token are only ever added, the slot is folded
    into the token where the model has none, and is zero where the file has none: the same function
    either way.

    Args:
        state: Tensors under timm's names; `pos_embed` (1, p + h * w, C), or (1, h, w, C), as
            SAM has it.
        model: The timm model; its `patch_embed.grid_size` is the grid wanted.
        antialias: Whether a shrinking grid is low-passed.
        pos_grid: (h, w) of the file, where it is neither square nor follows from the model.

    Returns:
        What was done, `''` for nothing.

    Raises:
        ValueError: If the file's grid cannot be told from its number of tokens.
    """
    positions, target = state.get('pos_embed'), getattr(model, 'pos_embed', None)
    if positions is None or target is None:
        return ''
    if positions.ndim == 2:
        positions = positions[None]
    if target.ndim == 4:
        state['pos_embed'], note = _to_map(positions, model, antialias, pos_grid)
        return note
    if positions.ndim != 3 or target.ndim != 3:
        return ''
    new_grid = _grid_of(model)
    slots = int(target.shape[1]) - math.prod(new_grid)
    kernel = state.get(_KERNEL)
    known = [pos_grid] if pos_grid else _known_grids(model, kernel)
    old_slots, old_grid = _source_layout(int(positions.shape[1]), slots, known, model, pos_grid)
    note = _arrow('grid', old_grid, new_grid)
    if old_slots != slots:
        prefix = _fit_slots(positions[:, :old_slots], slots, state)
        positions = torch.cat([prefix, positions[:, old_slots:]], dim=1)
        note += f'{", " if note else ""}prefix slots {old_slots} -> {slots}'
    if old_grid != new_grid:
        positions = resample_abs_pos_embed(
            positions,
            new_size=list(new_grid),
            old_size=list(old_grid),
            num_prefix_tokens=slots,
            antialias=antialias,
        )
    state['pos_embed'] = positions
    return note


def _to_map(
    positions: Tensor, model: nn.Module, antialias: bool, pos_grid: tuple[int, int] | None
) -> tuple[Tensor, str]:
    """Positions as a map (1, h, w, C), for SAM; ViTDet's have a cls slot in front, of no use."""
    target: Any = model.pos_embed
    note = ''
    if positions.ndim == 3:
        slots, grid = _source_layout(int(positions.shape[1]), 0, [], model, pos_grid)
        positions = positions[:, slots:].reshape(1, *grid, -1)
        note = f'prefix slots {slots} -> 0' if slots else ''
    new_size = [int(target.shape[1]), int(target.shape[2])]
    notes = [note, _arrow('grid', positions.shape[1:3], new_size)]
    resampled = resample_abs_pos_embed_nhwc(positions, new_size, antialias=antialias)
    return resampled, ', '.join(filter(None, notes))


def fit_kernel(state: dict[str, Tensor], model: nn.Module, *, antialias: bool) -> str:
    """Adapt the patch embedding to the model's input channels and patch size, in place.

    Channels as timm adapts them (summed for one, repeated and rescaled for more); the kernel by
    timm's pseudo-inverse resize, which keeps the response to resized patches (FlexiViT, eq. 3).

    Args:
        state: Tensors under timm's names; the kernel (C, in_chans, p, p).
        model: The timm model.
        antialias: Passed to the resize.

    Returns:
        What was done, `''` for nothing.
    """
    kernel = state.get(_KERNEL)
    target = getattr(getattr(getattr(model, 'patch_embed', None), 'proj', None), 'weight', None)
    if kernel is None or kernel.ndim != 4 or target is None or target.ndim != 4:
        return ''
    notes = []
    old_channels, new_channels = int(kernel.shape[1]), int(target.shape[1])
    if old_channels != new_channels:
        kernel = adapt_input_conv(new_channels, kernel, base_chans=old_channels)
        notes.append(f'input channels {old_channels} -> {new_channels}')
    old_size, new_size = kernel.shape[-2:], target.shape[-2:]
    if old_size != new_size:
        kernel = resample_patch_embed(kernel, list(new_size), antialias=antialias)
        notes.append(_arrow('kernel', old_size, new_size))
    state[_KERNEL] = kernel
    return ', '.join(notes)


def fit_channels(state: dict[str, Tensor], model: Any) -> dict[str, str]:
    """Adapt the first convolutions that timm names to the model's input channels, in place.

    Args:
        state: Tensors under timm's names.
        model: The timm model.

    Returns:
        Name -> what was done.
    """
    expected = model.state_dict()
    first = (getattr(model, 'pretrained_cfg', None) or {}).get('first_conv') or ()
    notes = {}
    for conv in (first,) if isinstance(first, str) else first:
        name = f'{conv}.weight'
        weight, target = state.get(name), expected.get(name)
        if weight is None or target is None or weight.ndim != 4:
            continue
        old, new = int(weight.shape[1]), int(target.shape[1])
        if old != new:
            state[name] = adapt_input_conv(new, weight, base_chans=old)
            notes[name] = f'input channels {old} -> {new}'
    return notes


def fit_line_tables(state: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, str]:
    """Resize SAM's `rel_pos_h` / `rel_pos_w` (2 * size - 1, C) linearly, as SAM does; in place."""
    notes: dict[str, str] = {}
    for name, table in state.items():
        target = expected.get(name)
        if target is None or not name.endswith(('.rel_pos_h', '.rel_pos_w')):
            continue
        if table.ndim == 2 and table.shape[0] != target.shape[0]:
            line = F.interpolate(table.float().T[None], size=int(target.shape[0]), mode='linear')
            state[name] = line[0].T.to(table.dtype)
            notes[name] = f'table {table.shape[0]} -> {target.shape[0]}'
    return notes


def _grid_of(model: nn.Module) -> tuple[int, int]:
    patch_embed: Any = model.patch_embed
    rows, columns = patch_embed.grid_size
    return int(rows), int(columns)


def _known_grids(model: nn.Module, kernel: Tensor | None) -> list[tuple[int, int]]:
    """Return the grid on which, by timm's record, the architecture was pre-trained."""
    size = (getattr(model, 'pretrained_cfg', None) or {}).get('input_size')
    if size is None or kernel is None or kernel.ndim != 4:
        return []
    return [(size[-2] // int(kernel.shape[-2]), size[-1] // int(kernel.shape[-1]))]


def _source_layout(
    tokens: int,
    slots: int,
    known: list[tuple[int, int]],
    model: nn.Module,
    pos_grid: tuple[int, int] | None,
) -> tuple[int, tuple[int, int]]:
    """Split a number of positions into prefix slots and a grid, the model's own layout first."""
    own = _grid_of(model)
    for candidate in dict.fromkeys((slots, 1, 0, 2, getattr(model, 'num_prefix_tokens', 1))):
        cells = tokens - candidate
        if cells < 1:
            continue
        for grid in known:
            if math.prod(grid) == cells:
                return candidate, grid
        if pos_grid is not None:
            continue
        side = math.isqrt(cells)
        if side * side == cells:
            return candidate, (side, side)
        if math.prod(own) == cells:
            return candidate, own
    given = f'pos_grid={pos_grid} does not account for them' if pos_grid else 'not a square grid'
    raise ValueError(
        f'pos_embed in the file has {tokens} positions, {given} with 0, 1 or 2 prefix slots; '
        'pass pos_grid=(rows, columns) of the grid the weights were trained on'
    )


def _fit_slots(prefix: Tensor, slots: int, state: dict[str, Tensor]) -> Tensor:
    """Bring the positions of prefix tokens (1, p, C) to (1, slots, C)."""
    if slots == 0:
        for index, name in enumerate(('cls_token', 'dist_token')):
            if name in state and index < prefix.shape[1]:
                state[name] = state[name] + prefix[:, index : index + 1]
        return prefix[:, :0]
    if prefix.shape[1] < slots:
        zeros = prefix.new_zeros(1, slots - prefix.shape[1], prefix.shape[2])
        return torch.cat([prefix, zeros], dim=1)
    return prefix[:, :slots]


def _arrow(what: str, old: tuple[int, ...] | list[int], new: tuple[int, ...] | list[int]) -> str:
    if tuple(old) == tuple(new):
        return ''
    return f'{what} {"x".join(map(str, old))} -> {"x".join(map(str, new))}'
